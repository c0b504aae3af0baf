"""Command lines of clush that are compared with ClusterShell's.

They are written as in tests/differential/commandlines.py. Lines of output that nodes send at the
same time have no order: the lines of both streams are sorted if the command line begins with "~".
{ssh} stands for the options that lead to the test cluster.
"""

from __future__ import annotations

from tests.differential.commandlines import FILES, Difference, read_lines
from tests.differential.programs import Result

#: The begin of a command line whose output has no order.
ANY_ORDER = "~ "

#: The files of the directory in which the command lines run; it is CLUSTERSHELL_CFGDIR, too.
CLUSH_FILES = {
    **FILES,
    "clush.conf": "[Main]\ncolor: auto\nconfdir: $CFGDIR/clush.conf.d $CFGDIR/nosuch\n",
    "clush.conf.d/a.conf": (
        '[mode:prefixed]\ncommand_prefix: echo "two words"\n'
        "[mode:short]\ncommand_timeout: 0.3\nfanout: 2\nmaxrc: yes\n"
    ),
    "clush.conf.d/b.conf": "[mode:quiet]\nverbosity: 0\n",
    "clush.conf.d/ignored": "[Main]\nverbosity: 3\n",
    "nocount.conf": "[Main]\nnode_count: no\nfanout: 3\n",
    "verbose.conf": "[Main]\nverbosity: 2\n",
    "badint.conf": "[Main]\nfanout: many\n",
    "badbool.conf": "[Main]\nnode_count: perhaps\n",
    "badfloat.conf": "[Main]\nconnect_timeout: soon\n",
    "badverbosity.conf": "[Main]\nverbosity: loud\n",
    "badcolor.conf": "[Main]\ncolor: blue\n",
    "percent.conf": "[Main]\ncommand_prefix: echo 5%\n",
    "doubled.conf": "[Main]\nfanout: 1\n[Main]\nfanout: 2\n",
    "nosection.conf": "fanout: 1\n",
    "filedir.conf": "[Main]\nconfdir: $CFGDIR/clush.conf\n",
    "maxrc.conf": "[Main]\nmaxrc: yes\n",
    "hosts": "n1 n[2-3]\n@web\n",
    "badhosts": "n1 n[\n",
    "commented": "n1 # n2\n# n3\n",
    "lone": "",
    "file": "content\n",
}

LINES = r"""
# output as it arrives
clush -R exec -w n1 echo ok
clush -R exec -w n1 echo a   b 'c  d'
clush -R exec -w n1 'echo out; echo err >&2'
~ clush -R exec -w n[1-3] echo %h
~ clush -R exec -w n[1-3] 'echo %h %n; echo e%h >&2'
clush -R exec -w n1 'printf "no newline"'
clush -R exec -w n1 'printf "\n\nblank\n"'
clush -R exec -w n1 'printf "\377\376bytes\n"'
clush -R exec -w n1 'printf "\377\n" >&2'
clush -R exec -w n1 'printf "\033[31mred\n"'
clush -R exec -w n1 true
clush -R exec -N -w n1 echo ok
clush -R exec -N -w n1 'echo err >&2'
clush -R exec -q -w n1 echo ok
clush -R exec -v -w n1 echo ok
clush -qvw n1 -R exec echo ok
clush -R exec -w n1 'echo %host %hosts %rank %%'
clush -R exec -w n1 'echo %z'
clush -R exec --remote=no -w n1 'echo %h'
~ clush --remote=no -w n[1-2] 'echo %h'
clush -R popen --remote=yes -w n1 'echo x'
# gathered
clush -R exec -b -w n[1-3] echo ok
clush -R exec -b -w n[1-3] echo %h
clush -R exec -b -w n[1-4] 'test %n -lt 3 && echo low || echo high'
clush -R exec -b -w n[1-4] 'test %n = 2 || echo some'
clush -R exec -bv -w n1 echo ok
clush -R exec -b -q -w n[1-3] echo ok
clush -R exec -bN -w n[1-3] echo ok
clush -R exec -bN -w n[1-2] echo %h
clush -R exec -b -w n[1-2] true
clush -R exec -b -w n1 'echo out; echo err >&2'
clush -R exec -B -w n1 'echo out; echo err >&2'
clush -R exec -B -q -w n[1-2] 'echo err >&2'
clush -R exec -B -w n1 'exit 3'
clush -R exec -b -w n[1-3] 'printf "a\n\nb\n"'
clush -R exec -b -w n1 'printf "\377\n"'
clush -R exec --dshbak -w n[1-3] echo ok
clush -R exec -b -O node_count=no -w n[1-3] echo ok
clush -R exec -r -b -w 'web[1-4],x' echo ok
clush -R exec -r -b -w 'web[1-4],db1' echo ok
clush -R exec -r -G -b -w 'web[1-4]' echo ok
clush -R exec -s rack -r -b -w 'rack-a-[1-2]' echo ok
clush -R exec -s rack -r -G -b -w 'rack-a-[1-2]' echo ok
clush -R exec -r -w web1 echo ok
clush -R exec -b --axis=1 -w 'r[1-2]n[1-2]' echo ok
clush -R exec -b --axis=2 -w 'r[1-2]n[1-2]' echo ok
clush -R exec -b --axis=-1 -w 'r[1-2]n[1-2]' echo ok
clush -R exec -b --axis=x -w 'r[1-2]n[1-2]' echo ok
# lines
clush -R exec -L -w n[1-3] echo %h
clush -R exec -L -w n[1-3] 'printf "%h\n\n%n\n"'
clush -R exec -LN -w n[1-3] echo %h
~ clush -R exec -L -w n[1-3] 'test %n = 1 || echo %h; exit %n'
clush -R exec -bL -w n[1-3] echo ok
clush -R exec -bL -w n[1-3] 'echo ok; echo %h'
clush -R exec -bL -w n[1-3] 'test %n = 1 || echo first; echo second'
clush -R exec -bLN -w n[1-3] echo ok
clush -R exec -BL -w n[1-2] 'echo err >&2'
clush -R exec -qbL -w n[1-2] echo ok
clush -R exec -bLS -w n1 'echo ok; exit 4'
clush -R exec -r -bL -w 'web[1-4]' echo ok
clush -R exec -r -L -w 'web[1-2]' echo ok
# differences
clush -R exec --diff -w n[1-3] echo ok
clush -R exec --diff -w n[1-3] 'echo common; test %n = 2 && echo more; true'
clush -R exec --diff -w n[1-3] 'test %n = 2 || echo ok'
clush -R exec --diff -w n[1-3] 'test %n = 2 && exit 1; echo ok'
clush -R exec --diff -r -w 'web[1-4],x' 'test %n = 4 && echo x || echo web'
clush -R exec --diff -L -w n1 echo ok
clush -R exec --diff --color=always -w n[1-3] 'echo common; test %n = 2 && echo more; true'
# exit statuses
clush -R exec -w n1 false
clush -R exec -w n1 exit 3
clush -R exec -S -w n1 exit 3
clush -R exec -qS -w n1 exit 3
clush -R exec -q -w n1 exit 3
clush -R exec -vS -w n1 exit 3
~ clush -R exec -S -w n[1-3] exit %n
clush -R exec -S -b -w n[1-3] exit 5
clush -R exec -b -w n[1-3] exit 5
clush -R exec -bq -w n[1-3] exit 5
clush -R exec -bqS -w n[1-3] exit 5
clush -R exec -bS -w n[1-3] true
clush -R exec -L -w n[1-3] exit 2
clush -R exec -S -w n1 'kill -9 $$'
clush -R exec -S -w n1 nosuchcommand-anywhere
clush -R exec --maxrc -w n1 exit 7
clush -R exec -O maxrc=yes -w n1 exit 7
clush -R exec --maxrc -O maxrc=no -w n1 exit 7
clush -R exec --conf maxrc.conf -w n1 exit 7
clush -R exec -O maxrc=maybe -w n1 exit 7
# timeouts
clush -R exec -u 0.2 -w n1 sleep 20
clush -R exec -u 0.2 -S -w n[1-2] sleep 20
clush -R exec -u 0.2 -b -w n[1-3] sleep 20
clush -R exec -u 0.2 -bS -w n1 sleep 20
clush -R exec -u 0.2 -bqS -w n1 sleep 20
clush -R exec -u 0.2 -q -w n1 sleep 20
clush -R exec -u 0.3 -b -w n[1-2] 'echo so far; exec sleep 20'
clush -R exec -u 0.3 -L -w n1 'echo so far; exec sleep 20'
clush -R exec -u 0.3 -bL -w n[1-2] 'echo so far; exec sleep 20'
clush -R exec -u x -w n1 true
clush -R exec -u 0 -w n1 echo ok
clush -R exec -t 3 -w n1 echo ok
clush -R exec -m short -w n1 sleep 20
# nodes
clush -R exec -b -w n[1-3] -x n2 echo ok
clush -R exec -b -w n1 -w n2,n3 -x n3 -x n2 echo ok
clush -R exec -b -a echo ok
clush -R exec -b -a -x 'web*' echo ok
clush -R exec -b -w 'web*' echo ok
clush -R exec -b -g web echo ok
clush -R exec -b -g web,db -X db echo ok
clush -R exec -b --group web -w n1 echo ok
clush -R exec -b -w @web echo ok
clush -R exec -b -w '@web&web[2-9]' echo ok
clush -R exec -b -w @rack:a echo ok
clush -R exec -b -s rack -w @a echo ok
clush -R exec -b -s rack -g a echo ok
clush -R exec -b --groupsconf other.conf -w @x echo ok
clush -R exec -b --groupsconf other.conf -a echo ok
clush -R exec -w @nosuch true
clush -R exec -g nosuch true
clush -R exec -g none true
clush -R exec -w @gone:x true
clush -R exec -s gone -a true
clush -R exec -w 'n[' true
clush -R exec -w n1 -x 'n[' true
clush -R exec -g 'g[' true
clush -R exec -w n1 -x n1 true
clush -R exec true
clush -R exec -w '' true
clush -w -x true
clush -R exec -b --hostfile hosts echo ok
clush -R exec -b --machinefile hosts -x n1 echo ok
clush -R exec -b --hostfile hosts --hostfile hosts -w n9 echo ok
clush -R exec -b --hostfile commented echo ok
clush -R exec --hostfile nosuch true
clush -R exec --hostfile badhosts true
clush -R exec -w lone echo ok
clush -R exec -q -w lone echo ok
clush -R exec -w n1,lone -x lone echo ok
clush -R exec --pick 3 -b -w n[1-3] echo ok
clush -R exec --pick 0 -b -w n[1-3] echo ok
clush -R exec --pick 9 -b -w n[1-3] echo ok
clush -R exec --pick -1 -b -w n[1-3] echo ok
clush -R exec --pick x -b -w n[1-3] echo ok
# standard input
clush -R exec -w n1 cat < ok\n
clush -R exec -w n1 cat < ok\nlast
~ clush -R exec -w n[1-3] cat < a\nb\n
clush -R exec -b -w n[1-3] cat < a\nb\n
clush -R exec -n -w n1 cat < a\n
clush -R exec --nostdin -w n1 'wc -c' < a\n
clush -R exec -w n1 true < unread\n
clush -R exec -w n1 'head -1' < a\nb\nc\n
clush -R exec -f 1 -b -w n[1-3] cat < a\n
clush -R exec -w n1 < echo typed\n
# colours
clush -R exec --color=always -w n1 echo ok
clush -R exec --color=always -w n1 'echo err >&2'
clush -R exec --color=always -b -w n[1-3] echo ok
clush -R exec --color=always -L -w n1 echo ok
clush -R exec --color=never -w n1 echo ok
clush -R exec --color=auto -w n1 echo ok
clush -R exec --color=blue -w n1 echo ok
clush -R exec -O color=always -w n1 echo ok
clush -R exec -O color=blue -w n1 echo ok
# clush.conf
clush -R exec --conf nocount.conf -b -w n[1-3] echo ok
clush -R exec --conf verbose.conf -b -w n1 echo ok
clush -R exec --conf verbose.conf -q -b -w n[1-3] echo ok
clush -R exec --conf badint.conf -w n1 true
clush -R exec --conf badbool.conf -w n1 true
clush -R exec --conf badfloat.conf -w n1 true
clush -R exec --conf badverbosity.conf -b -w n[1-2] echo ok
clush -R exec --conf badcolor.conf -w n1 true
clush -R exec --conf percent.conf -w n1 true
clush -R exec --conf doubled.conf -w n1 true
clush -R exec --conf nosection.conf -w n1 true
clush -R exec --conf filedir.conf -w n1 true
clush -R exec --conf nosuch.conf -w n1 echo ok
clush -R exec -O fanout=x -w n1 true
clush -R exec -O fanout -w n1 true
clush -R exec -O nosuchkey=1 -w n1 echo ok
clush -R exec -O verbosity=0 -b -w n[1-3] echo ok
clush -R exec -O verbosity=x -b -w n[1-3] echo ok
clush -R exec -q -O verbosity=2 -b -w n1 echo ok
clush -R exec -O command_prefix=echo -w n1 a b
clush -R exec -v -O command_prefix=echo -w n1 a b
clush -R exec -m prefixed -w n1 a b
clush -R exec -v -m prefixed -w n1 a b
clush -R exec -m nosuch -w n1 a b
clush -R exec -m short -u 20 -w n1 'sleep 1; echo ok'
clush -R exec -b -O connect_timeout=3 -w n[1-2] echo ok
clush -R exec -m quiet -b -w n[1-3] echo ok
# files
~ clush -R exec --outdir out1 -w n[1-2] echo %h
clush -R exec --outdir out2 --errdir err2 -w n1 'echo a; echo b >&2'
clush -R exec --outdir out3 -b -w n[1-2] echo ok
clush -R exec --outdir file -w n1 echo ok
clush -R exec --outdir out4 -w n1 'printf "\377\n"'
# copies over local commands, and wrong ones
clush -R exec -w n1 -c
clush -R exec -w n1 --rcopy
clush -R exec -w n1 -c nosuch
clush -R exec -w n1 --rcopy /no/such/dir/file
clush -R exec -w n1 --rcopy file --dest file
# wrong usage
clush
clush -w n1 -k true
clush --nosuch -w n1 true
clush -w
clush -w n1 -f x true
clush --version
clush --help
clush -R nosuch -w n1 true
clush -R exec -f 0 -w n1 echo ok
clush -R exec -f -1 -w n1 echo ok
clush -R exec --color -w n1 true
clush -R exec --remote=maybe -w n1 true
clush --wor exec -w n1 echo abbreviated
clush -R exec -w n1 -- echo -b
clush -R exec -w n1 echo -b -w n2
# over SSH
clush {ssh} -w node1 echo ok
~ clush {ssh} -w node[1-3] 'echo out; echo err >&2'
clush {ssh} -b -w node[1-3] echo ok
clush {ssh} -bL -w node[1-3] 'echo a; echo b'
clush {ssh} -L -w node[1-3] echo ok
clush {ssh} -S -w node1 exit 9
clush {ssh} -b -w node[1-2] exit 9
clush {ssh} -w node1 cat < typed\n
clush {ssh} -w node1 < echo typed\n
clush {ssh} -n -w node1 'wc -c' < typed\n
clush {ssh} -R ssh -w node1 echo ok
clush {ssh} -u 0.5 -b -w node[1-2] sleep 20
clush {ssh} -w node1 --copy file --dest copied
clush {ssh} -v -w node1 --copy file --dest copied
clush {ssh} -v -w node[1-2] --copy file --dest copied2
clush {ssh} -w node1 --rcopy copied --dest .
clush {ssh} -v -w node1 --rcopy copied --dest .
clush {ssh} -w node1 --rcopy nosuchfile --dest .
"""

_OWN_WORDS = "The errors of `clush` about the words of `-R exec`"
_PARTIAL = "`clush -b` and `-L` also print the output"
_GROUPSCONF = "`--groupsconf FILE` may be a name without a directory"
_EMPTY = "`clush` names the pattern or group"
_CONF = "A file of `clush --conf` that does not exist"
_COMMENTS = "`#` begins a comment in a file of `clush --hostfile`"
_OUTDIR = "`clush --outdir` and `--errdir` write bytes as they are"
_MODE = "The options of `clush` win over the section of its mode"

_RULE = "-" * 15


def _gathered(nodes: str, text: str) -> str:
    return f"{_RULE}\n{nodes}\n{_RULE}\n{text}\n"


#: By command line.
DIFFERENCES: dict[str, Difference] = {
    r"clush -R exec -w n1 'echo %z'": Difference(
        _OWN_WORDS,
        (
            1,
            "",
            (
                "clush: unknown keyword %z in 'echo %z': use %h, %host, %hosts, %n, %rank, "
                "or %% for a percent sign\n"
            ),
        ),
    ),
    r"clush -R exec -u 0.3 -b -w n[1-2] 'echo so far; exec sleep 20'": Difference(
        _PARTIAL, (0, _gathered("n[1-2] (2)", "so far"), "clush: n[1-2]: command timeout\n")
    ),
    r"clush -R exec -u 0.3 -L -w n1 'echo so far; exec sleep 20'": Difference(
        _PARTIAL, (0, "n1: so far\n", "clush: n1: command timeout\n")
    ),
    r"clush -R exec -b --groupsconf other.conf -w @x echo ok": Difference(
        _GROUPSCONF, (0, _gathered("o[1-3] (3)", "ok"), "")
    ),
    r"clush -R exec -b --groupsconf other.conf -a echo ok": Difference(
        _GROUPSCONF, (0, _gathered("o[1-5] (5)", "ok"), "")
    ),
    r"clush -R exec -g none true": Difference(
        _EMPTY,
        (
            2,
            "",
            (
                "Usage: clush [options] command\n\n"
                "clush: error: -g 'none' names no node: this group is empty or unknown\n"
            ),
        ),
    ),
    r"clush -R exec --conf nosuch.conf -w n1 echo ok": Difference(
        _CONF, (1, "", "ERROR: [Errno 2] No such file or directory: 'nosuch.conf'\n")
    ),
    r"clush -R exec -b --hostfile commented echo ok": Difference(
        _COMMENTS, (0, _gathered("n1", "ok"), "")
    ),
    r"""clush -R exec --outdir out4 -w n1 'printf "\377\n"'""": Difference(
        _OUTDIR, (0, "n1: \ufffd\n", "")
    ),
    r"clush -R exec -m short -u 20 -w n1 'sleep 1; echo ok'": Difference(
        _MODE, (0, "n1: ok\n", "")
    ),
    r"clush --help": Difference("`--help` has this package's words", None),
    r"clush -R exec -f -1 -w n1 echo ok": Difference(
        "A fanout of `clush` that is less than 1 is an error",
        (1, "", "ERROR: (Config Main.fanout): must be at least 1, not -1\n"),
    ),
    r"clush {ssh} -w node1 --rcopy nosuchfile --dest .": Difference(
        "The errors of copies over SSH have no `scp: ` before them",
        (
            0,
            "",
            "node1: nosuchfile: No such file or directory\nclush: node1: exited with exit code 1\n",
        ),
    ),
}


def clush_lines() -> list[str]:
    """All command lines, as they are written here."""
    return read_lines(LINES)


def canonical(line: str, result: Result) -> Result:
    """The result in the order in which it is compared."""
    status, out, err = result
    if not line.startswith(ANY_ORDER):
        return status, out, err
    return status, *("\n".join(sorted(text.splitlines())) for text in (out, err))
