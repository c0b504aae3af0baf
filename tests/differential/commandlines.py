"""Command lines of nodeset, cluset and clubak that are compared with ClusterShell's.

A command line is written as in a shell; " < TEXT" after it, in which escapes are decoded, is its
standard input.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple, Optional

from tests.differential.programs import Line, Result

#: The files of the directory in which the command lines run; it is CLUSTERSHELL_CFGDIR, too.
FILES = {
    "groups.conf": """
[Main]
default: local
confdir: $CFGDIR/groups.conf.d
autodir: $CFGDIR/groups.d

[local]
map: cat "group.$GROUP"
all: echo 'web[1-4]' db1 db2 spare7
list: printf 'web\\ndb\\nboth\\nnone\\n'

[rack,room]
map: echo "$SOURCE-$GROUP-[1-2]"
list: echo a b

[mapless]
map: echo n1
""",
    "group.web": "web[1-4]\n",
    "group.db": "db1,db2\n",
    "group.both": "@web,@db\n",
    "group.none": "",
    "groups.conf.d/more.conf": """
[reversed]
map: case $GROUP in odd) echo 'n[1,3,5]';; even) echo 'n[2,4]';; esac
list: echo odd even
reverse: case $NODE in *[135]) echo odd;; *) echo even;; esac

[mapped]
mapall: printf 'one: n1\\ntwo: n[1-2]\\n'
""",
    "groups.d/file.yaml": """
file:
  all: 'y[1-9]'
  low: ['y[1-3]', y4]
  high: 'y[5-9]'
  nothing:
""",
    "other.conf": "[Main]\ndefault: o\n[o]\nmap: echo o[1-3]\nlist: echo x\nall: echo o[1-5]\n",
    "nodefault.conf": "[only]\nmap: echo q1\nlist: echo x\n",
    "empty.conf": "",
    "malformed.conf": "[Main\n",
    "unparsable.conf": "[Main]\ndefault: x\nthis is no key\n",
    "twice.conf": "[a]\nmap: echo 1\n[a]\nmap: echo 2\n",
    "wrongdefault.conf": "[Main]\ndefault: gone\n[a]\nmap: echo n1\n",
    "nomap.conf": "[a]\nlist: echo n1\n",
    "failing.conf": (
        "[a]\nmap: echo n1; exit 3\nall: exit 4\nlist: echo x; exit 5\nreverse: exit 6\n"
    ),
    "badlist.conf": "[a]\nmap: echo n1\nlist: echo 'x@y'\n",
    "listfails.conf": "[a]\nmap: exit 3\nlist: echo x\n",
    "partly.conf": "[a]\nmap: [ $GROUP = x ] && echo n1\nlist: echo x y\n",
    "reversefails.conf": "[a]\nmap: echo n1\nreverse: exit 6\n",
    "reverseonly.conf": "[a]\nmap: echo n1 n2\nreverse: echo x\n",
    "badyaml.conf": "[Main]\nautodir: $CFGDIR/badyaml.d\n",
    "badyaml.d/x.yaml": "good:\n  a: n1\nbroken: no dictionary\n",
    "dirisfile.conf": "[Main]\nconfdir: $CFGDIR/empty.conf\n[a]\nmap: echo n1\n",
    "loop.conf": "[a]\nmap: echo @x\nlist: echo x\n",
    "badanswer.conf": "[a]\nmap: echo 'n['\nall: echo 'm['\nlist: echo x\n",
}

NODESET = r"""
# commands
nodeset -c n1
nodeset --count n1 n2 n1
nodeset -c ''
nodeset -e n[1-3]
nodeset -e ''
nodeset --expand n[3-1]
nodeset -f n3 n1 n2
nodeset --fold n3,n1,n2 m[01-03] m5 x
nodeset --fo n1
cluset -f n1 n2
nodeset -f ''
nodeset -f 'n[1-3]!n2'
nodeset -f 'n[1-3]&n[2-5]'
nodeset -f 'n[1-3]^n[2-5]'
nodeset -f 'n[1-5/2],m' 'r[1-2]n[1-3]'
nodeset -f n9 n10 n09
nodeset -f 'n[9-11,008-010]'
nodeset -f '  n1  ,  n2 '
nodeset -r n1 n2
nodeset -r 'web[1-4]' db1
nodeset -r 'web[1-4],db[1-2],x'
nodeset -r web1
nodeset -s rack -r 'rack-a-[1-2],rack-b-1'
nodeset -s rack -G -r 'rack-a-[1-2]'
nodeset -G -r 'web[1-4]'
nodeset -r @reversed:odd
nodeset -s reversed -r 'n[1-5]'
nodeset -s file -r 'y[1-9]'
nodeset -s file -r 'y[5-9],y1'
nodeset -s mapped -r 'n[1-2]'
nodeset -s room -r 'rack-a-[1-2]'
nodeset -q
nodeset
nodeset n1
nodeset -c -e n1
nodeset -f -l
nodeset -ce n1
nodeset --index n3 n[1-9]
nodeset --index n9 n1
nodeset --index n[1-2] n[1-9]
nodeset --index '' n1
nodeset --index n1 ''
nodeset --index m2 n[1-9],m[1-3]
nodeset --index r1n2 r[1-2]n[1-3]
nodeset -R --index 5 0-9
nodeset -R --index 50 0-9
nodeset -R --index 09 08-10
nodeset -R --index x 1-3
nodeset --index n1 --pick 2 n[1-9]
nodeset --index n1 --pick 0 n[1-9]
nodeset --index n1 -c n1
nodeset --index=web2 @web
# lists of groups
nodeset -l
nodeset -ll
nodeset -lll
nodeset --list --list
nodeset -l -s rack
nodeset -ll -s rack
nodeset -lll -s rack
nodeset -ll -s rack -G
nodeset -l -s file
nodeset -lll -s file
nodeset -l -s mapped
nodeset -lll -s mapped
nodeset -l -s mapless
nodeset -l -s gone
nodeset -l web1
nodeset -ll web1 db2
nodeset -lll web1 db2
nodeset -lll -s rack rack-a-1
nodeset -lll -s reversed n1 n2
nodeset -l unknown9
nodeset -l -a
nodeset -lll -a
nodeset -l -a -x web[1-4]
nodeset -l -x web1
nodeset -l -X web1
nodeset -l -i web1
nodeset -ll - < web1
nodeset -l @none
nodeset -L
nodeset -LL
nodeset -LLL
nodeset -L -s rack
nodeset -LL -G
nodeset -L web1
nodeset -LLL web1 rack-a-1
nodeset -L -a
nodeset --list-all --list-all n1
nodeset --list-sources
nodeset --groupsources
nodeset --list-sources -q
nodeset --list-sources -s rack
nodeset --list-sources -s gone
nodeset --list-sources n1
nodeset --completion
nodeset --completion n1
nodeset --completion n[1-3] -x n2
nodeset --completion @web
nodeset --completion -s rack
nodeset --completion -s rack @a
nodeset --completion -S , n1 n2
nodeset --completion -s mapless
# groups
nodeset -f @web
nodeset -f @both
nodeset -e @local:db
nodeset -c @*
nodeset -f @*
nodeset -f @rack:*
nodeset -f @rack:a
nodeset -s rack -f @a
nodeset -f @file:*
nodeset -f @file:low
nodeset -f @file:nothing
nodeset -f @@local
nodeset -f @@rack
nodeset -f @none
nodeset -f @gone
nodeset -f @nosuch:a
nodeset -f n1,@gone
nodeset -f @mapless:any
nodeset -f @mapless:*
nodeset -f @@mapless
nodeset -f @mapped:two
nodeset -f @mapped:three
nodeset -f @rack:a,@room:b
nodeset -f @rack:[a-b]
nodeset -f 'web*'
nodeset -f 'web?' '*2'
nodeset -f 'gone*'
nodeset -f '*!web*'
nodeset -s mapless -f '*'
nodeset -a -f
nodeset -a -c
nodeset -a -s rack -f
nodeset -a -s mapless -f
nodeset -a -f x1
nodeset -a -f -x @web
nodeset -a -f @web -i db1
nodeset -s gone -f n1
nodeset -s gone -c @a
nodeset -s '' -f n1
nodeset -s -x -f n1
nodeset -s
nodeset --groupsource=rack -f @b
# other group files
nodeset --groupsconf=./other.conf -f @x
nodeset --groupsconf=./other.conf -a -f
nodeset --groupsconf=./other.conf -L
nodeset --groupsconf=other.conf -f @x
nodeset --groupsconf=./nodefault.conf -f @x
nodeset --groupsconf=./nodefault.conf -a -f
nodeset --groupsconf=./gone.conf -f @x
nodeset --groupsconf=./gone.conf -l
nodeset --groupsconf=./gone.conf -L
nodeset --groupsconf=./gone.conf -a -f
nodeset --groupsconf=./gone.conf -r n1
nodeset --groupsconf=./empty.conf --list-sources
nodeset --groupsconf=./empty.conf -f n1
nodeset --groupsconf=./empty.conf -f 'n*'
nodeset --groupsconf=./malformed.conf -L
nodeset --groupsconf=./malformed.conf -f n1
nodeset --groupsconf=./malformed.conf -f @x
nodeset --groupsconf=./unparsable.conf -f @x
nodeset --groupsconf=./twice.conf -f @x
nodeset --groupsconf=./wrongdefault.conf -f @x
nodeset --groupsconf=./wrongdefault.conf -L
nodeset --groupsconf=./nomap.conf -f @x
nodeset --groupsconf=./failing.conf -f @x
nodeset --groupsconf=./failing.conf -f n1,@x
nodeset --groupsconf=./failing.conf -l
nodeset --groupsconf=./failing.conf -L
nodeset --groupsconf=./failing.conf -a -f
nodeset --groupsconf=./failing.conf -r n1
nodeset --groupsconf=./failing.conf -l n1
nodeset --groupsconf=./badlist.conf -l
nodeset --groupsconf=./badlist.conf -r n1
nodeset --groupsconf=./listfails.conf -r n1
nodeset --groupsconf=./partly.conf -r n1
nodeset --groupsconf=./partly.conf -l n1
nodeset --groupsconf=./partly.conf -ll
nodeset --groupsconf=./listfails.conf -ll
nodeset --groupsconf=./listfails.conf -a -f
nodeset --groupsconf=./reversefails.conf -r n1
nodeset --groupsconf=./reverseonly.conf -r n1 n2
nodeset --groupsconf=./reverseonly.conf -l
nodeset --groupsconf=./badyaml.conf -L
nodeset --groupsconf=./badyaml.conf -f @good:a
nodeset --groupsconf=./dirisfile.conf -f @x
nodeset --groupsconf=./loop.conf -f @x
nodeset --groupsconf=./badanswer.conf -f @x
nodeset --groupsconf=./badanswer.conf -a -f
nodeset --groupsconf=./badanswer.conf -f 'n*'
# operations
nodeset -f n[1-3] -x n2
nodeset -f n[1-3] -i n[2-5]
nodeset -f n[1-3] -X n[2-5]
nodeset -f n[1-3] --exclude n2 --intersection n[2-9] --xor n7
nodeset -f n[1-3] -x n2 n2
nodeset -f n[1-9] -x @web -i n[2-5] m -X n5
nodeset -f n1 -x
nodeset -f n1 -i
nodeset -f -x
nodeset -f n1 -x ''
nodeset -f n1 -x n1
nodeset -f -x n1 n[1-3]
nodeset -f -q -x n1 n[1-3]
nodeset -f -i n1 n[1-3]
nodeset -f -X n1 n2
nodeset -f -X n1 -i n2 -x n3 < n[1-9]\n
nodeset -f -x n1 -x n2 < n[1-4]\n
nodeset -c --intersection n1 < \n
nodeset -a -f -x web1 -i web[1-2]
nodeset -f n[1-3] -xn2
nodeset -f n[1-3] --exclude=n2
nodeset -f n1 -S ,
nodeset -f n1 -- n2
nodeset -f -- n1 n2
nodeset -f -- -x n2
nodeset -f 'n1\nn2'
nodeset -f "n1
n2" -x "n2
n3"
nodeset -f n1,
nodeset -f ,n1
nodeset -f n1 -x 'n['
nodeset -f -x 'n[' n1
# standard input
nodeset -f < n1 n2\nn3 # n4\n\n  n5  \n
nodeset -f - < n1\n
nodeset -f n7 - n8 < n1\n
nodeset -f n[1-9] -x - < n1 n2\n
nodeset -f n[1-9] -i - < n1 n2\n
nodeset -f n[1-9] -X - < n1 n12\n
nodeset -f n1 -i - < \n
nodeset -f - - < n1\n
nodeset -f - -x - < n1\n
nodeset -f -x - n[1-3] < n1\n
nodeset -c <
nodeset -e < #\n
nodeset -f < n1#x\n
nodeset -f < @web\n
nodeset -f < n[\n
nodeset -f < n1 n[1-\nn2\n
nodeset -f < n1\x85n2\tn3\x0bn4\n
nodeset -R -f < 1 2\n5-7\n
nodeset -R -f < 1,x\n
nodeset -f < n1 n22
nodeset -f < n1,n2
nodeset -f < n1\n\udcffn2\n
# range sets
nodeset -R -f 1 2 3
nodeset -R -f 1-9/2 008-010
nodeset -R -e 8-11
nodeset -R -c 1-1000000
nodeset -R -f 1-5 -x 2 -i 1-4 -X 9
nodeset -R -f -- -5--1
nodeset -R -f ''
nodeset -R -f a
nodeset -R -f 1-
nodeset -R -f 3-1
nodeset -R -f 1/2
nodeset -R -f 1-5/0
nodeset -R -f 1-5/x
nodeset -R -f 01-9
nodeset -R -f 1,,2
nodeset -R -a
nodeset -R -a -f
nodeset -R -r 1
nodeset -R -s rack -f 1
nodeset -R -q -s rack -f 1
nodeset -R -s gone -f 1
nodeset -R -l
nodeset -R -l 1
nodeset -R --axis=1 -f 1
nodeset -R --split=2 -f 1-5
nodeset -R --contiguous -f 1-5/2,7-9
nodeset -R -I 0-2 -f 5-9
nodeset -R --autostep=3 -f 1,3,5,9
nodeset -R -O '<%s>' -f 1-3
nodeset -R -O '<%s>' -e 1-3
# separators and formats
nodeset -S , -e n[1-3]
nodeset -S '' -e n[1-3]
nodeset -S '\n' -e n[1-3]
nodeset -S '\t' -e n[1-3]
nodeset -S '\x41\u00e9\101' -e n[1-3]
nodeset -S '\d\q' -e n[1-2]
nodeset -S '\x4' -e n[1-3]
nodeset -S '\' -e n[1-3]
nodeset -S '\\' -e n[1-3]
nodeset -S "'" -e n[1-3]
nodeset -S '"' -e n[1-3]
nodeset -S "'''" -e n[1-3]
nodeset -S "a'" -e n[1-3]
nodeset --separator=:: --expand n[1-2]
nodeset -S '\x4' -c n1
nodeset -e -S
nodeset -O '%s-ib' -e n[1-3]
nodeset -O '%s-ib' -f n[1-3]
nodeset -O '%s-[1-2]' -f n[1-2]
nodeset -O 'a[%s' -f n[1-2]
nodeset -O '%s%%' -f n1
nodeset -O '%s%%' -e n1
nodeset -O '<%s>' -c n[1-3]
nodeset -O '%d' -c n[1-3]
nodeset -O '%5d|' -c n[1-3]
nodeset -O '%d' -e n1
nodeset -O '%d' --index n1 n1
nodeset -O 'x' -e n1
nodeset -O '' -f n1
nodeset -O '%s %s' -e n1
nodeset -O '%' -e n1
nodeset -O '%q' -e n1
nodeset -O '%(a)s' -e n1
nodeset -O '<%s>' -r 'web[1-4]'
nodeset -O '<%s>' -f ''
nodeset -O '<%s>' -e ''
nodeset -O '%s' -f n1
nodeset -O '%s.x' --axis=1 -f 'r[1-2]n[1-2]'
nodeset -O '%s.x' --autostep=3 -f 'n[1-9/2]'
nodeset --output-format='%s,%s' -f n1
# parts
nodeset -I 0 -f n[1-9]
nodeset -I 0-2 -e n[1-9]
nodeset -I 0-8/2 -f n[1-9]
nodeset -I 3,1 -f n[1-9]
nodeset -I 5-99 -f n[1-9]
nodeset -I 99 -f n[1-9]
nodeset -I -1 -f n[1-9]
nodeset -I x -f n[1-9]
nodeset -I '' -f n[1-9]
nodeset -I 1 -f m,n[1-9]
nodeset --slice=1-2 -f 'r[1-2]n[1-2]'
nodeset --slice 0-1 -c n[1-9] -x n1
nodeset --split 2 -f n[1-9]
nodeset --split 3 -e n[1-9]
nodeset --split=20 -c n[1-3]
nodeset --split=1 -f n[1-3]
nodeset --split=0 -f n[1-3]
nodeset --split=-1 -f n[1-3]
nodeset --split=x -f n[1-3]
nodeset --split=2 -f ''
nodeset --split=2 -r 'web[1-4]'
nodeset --split=2 --contiguous -f n1
nodeset --contiguous -f n[1-3,5,7-8],m
nodeset --contiguous -e n[1-3,5]
nodeset --contiguous -c n[1-3,5]
nodeset --contiguous -f 'r[1-2]n[1-2,4]'
nodeset --contiguous -f ''
nodeset --contiguous --autostep=3 -f n[1-9/2]
nodeset --pick 100 -f n[1-9]
nodeset --pick 0 -f n[1-9]
nodeset --pick 1 -c n[1-9]
nodeset --pick=-1 -f n[1-9]
nodeset --pick=x -f n1
nodeset --pick 2 -c -R 1-9
nodeset --pick 3 -f n[1-1000]
nodeset --pick 2 -e 'r[1-9]n[1-9]'
# folding
nodeset --autostep=3 -f n[1,3,5]
nodeset --autostep=4 -f n[1,3,5]
nodeset --autostep 3 -f n[1-9/2] -x n5
nodeset --autostep=auto -f n[1,3,5,7]
nodeset --autostep=auto -f n[1,3,5,8]
nodeset --autostep=50% -f n[1,3,5,8,13]
nodeset --autostep=100% -f n[1,3,5,8]
nodeset --autostep=0% -f n[1,3,5]
nodeset --autostep=0 -f n[1,3,5]
nodeset --autostep=1 -f n[1,3]
nodeset --autostep=-1 -f n[1,3,5]
nodeset --autostep=x -f n1
nodeset --autostep=5%% -f n1
nodeset --autostep=% -f n1
nodeset --autostep=93.33% -f n[1-9/2]
nodeset --autostep=3 -e n[1-9/4]
nodeset --autostep=3 -f < n1 n3 n5\n
nodeset --axis=1 -f 'r[1-2]n[1-2]'
nodeset --axis=2 -f 'r[1-2]n[1-2],m[1-2]'
nodeset --axis=-1 -f 'r[1-2]n[1-2]'
nodeset --axis=1-2 -f 'r[1-2]n[1-2]'
nodeset --axis=3 -f 'r[1-2]n[1-2]'
nodeset --axis=0 -f 'r[1-2]n[1-2]'
nodeset --axis=x -f 'r[1-2]n[1-2]'
nodeset --axis=-x -f 'r[1-2]n[1-2]'
nodeset --axis= -f 'r[1-2]n[1-2]'
nodeset --axis=1 -e n1
# wrong patterns
nodeset -f 'n['
nodeset -f 'n]'
nodeset -f 'n[]'
nodeset -f 'n[x]'
nodeset -f 'n[1-'
nodeset -f 'n[1-]'
nodeset -f 'n[3-1]'
nodeset -f 'n[1-2-3]'
nodeset -f 'n[1-5/0]'
nodeset -f 'n[1-5/x]'
nodeset -f 'n[1/2]'
nodeset -f 'n[1,]'
nodeset -f 'n[1,,2]'
nodeset -f 'n[01-9]'
nodeset -f 'n[9-010]'
nodeset -f 'n[1][2]'
nodeset -f 'n[1]]'
nodeset -f 'n]1['
nodeset -f 'n[1-3/2]5'
nodeset -f 'a[1]b]'
nodeset -f 'a,,b'
nodeset -f 'a!!b'
nodeset -f 'a!'
nodeset -f '!a'
nodeset -f 'a,[1'
nodeset -f 'a[1],'
nodeset -f 'a,b]'
nodeset -f 'n[1-3]x[' m
nodeset -f 'n[a-b]c[1-2]'
nodeset -f 'n5[x]'
nodeset -f 'n[x]5'
nodeset -f 'n[1-3],m[9-1]'
nodeset -f 'n[1-3]&'
nodeset -f '@'
nodeset -f '@web:'
# wrong usage
nodeset --nosuch
nodeset -Z
nodeset -f --nosuch n1
nodeset --l
nodeset --version
cluset --version
nodeset --count=3 n1
nodeset --groupsconf
nodeset --help
# where ClusterShell fails
nodeset --completion -a n1
nodeset --completion -x n1 n2
nodeset --split=2 --axis=1 -f 'r[1-2]n[1-2]'
nodeset -L -s mapless @reversed:odd
nodeset -d -c @web
nodeset -f '[]5'
nodeset -f '[ 1 - 2 ]5'
nodeset -f '5[-1]'
nodeset -f 'n[1-9' -q
"""

CLUBAK = r"""
clubak <
clubak < n1: a\n
clubak < n1: a\nn2: b\nn1: c\n
clubak < n10: a\nn9: a\nm: b\n
clubak < n1: a
clubak < n1:a\r\n
clubak < n1:\n
clubak < n[1-3]: a\nn2: b\n
clubak < n1: x:y\n
clubak < \udcff: a\n
clubak < n1: \udcff\u00e9\n
clubak < n1  :a\n  n1: b\n
clubak < @web: up\n
clubak < @gone: up\n
clubak < @nosuch:a: up\n
clubak -b < n1: a\nn2: a\nn3: b\n
clubak -b < n2: b\nn3: a\nn1: a\nn4: b\n
clubak -c < n1: a\nn2: a\n
clubak --dshbak < n1: a\nn2: a\n
clubak -B < n1: a\nn2: a\n
clubak -b < n1: a\nn1: b\nn2: a\nn2: b\nn3: a\n
clubak -b < n9: a\nn10: a\nn11: b\n
clubak -b < r1n1: a\nr1n2: a\nr2n1: a\n
clubak -L < n2: a\nn1: b\nn2: c\n
clubak -bL < n1: a\nn2: a\nn3: b\n
clubak -L -S ': ' < n1: a\nn2: b\n
clubak -S = < n1=a=b\n
clubak -S '' < n1: a\n
clubak -S xx < n1xxa\n
clubak -S : -b < n1: a\n
clubak -N < n1: a\nn2: b\n
clubak -bN < n1: a\nn2: a\nn3: c\n
clubak -NL < n1: a\n
clubak -r < web1: a\nweb2: a\nweb3: a\nweb4: a\ndb1: a\n
clubak -rG < web1: a\nweb2: a\nweb3: a\nweb4: a\n
clubak -r -s rack < rack-a-1: x\nrack-a-2: x\n
clubak -r -s rack -G < rack-a-1: x\nrack-a-2: x\n
clubak -rL < web1: a\nweb2: a\nweb3: a\nweb4: a\n
clubak -r -s gone < n1: a\n
clubak -r --groupsconf=./other.conf < o1: a\no2: a\no3: a\n
clubak -r --groupsconf=./failing.conf < o1: a\n
clubak -r --groupsconf=./malformed.conf < o1: a\n
clubak -q -b < n1: a\nn2: a\n
clubak -v < n1: a\n
clubak -v -b < n1: a\nn2: a\n
clubak -d < n1: a\nn1: b\n
clubak -d -b < n1: a\n
clubak -d -L < n1: a\n
clubak -d <
clubak -v -q < n1: a\nn2: b\n
clubak -v < n1: \udcff\n
clubak -F < n1: a\nn2: b\nn1: c\n
clubak -F -b < n1: a\nn2: a\nn1: c\nn2: c\n
clubak -F -d -b < n1: a\nn1: c\n
clubak -F --diff < n1: a\nn1: b\nn2: a\nn2: c\n
clubak -F -L < n1: a\n
clubak -F -T < n1: a\n
clubak -T < n1:a\nn2:a\nn1:b\nn2:c\n
clubak -T -L < n1:a\nn2:a\nn1:b\nn2:c\n
clubak -T < n1:a\nn2:a\nn3:x\nn1:b\nn2:b\nn1:c\nn2:d\nn1:e\nn2:e\n
clubak -T -b < n1:a\nn2:a\n
clubak -T -N < n1:a\nn2:b\n
clubak -T -d < n1:a\nn1:b\nn2:a\n
clubak -T -q < n1:a\nn2:a\n
clubak -T -r < web1:a\nweb2:a\nweb3:a\nweb4:a\n
clubak -T <
clubak --tree -L < n1:a\nn2:a\nn1:b\nn1:c\nn2:x\n
clubak --interpret-keys=never -b < n[1-2]: a\n
clubak --interpret-keys=never < n[1-2]: a\nn9: b\n
clubak --interpret-keys=never -L < n[1-2]: a\n
clubak --interpret-keys=always -b < n[1-2]: a\n
clubak --interpret-keys=always < n[: a\n
clubak --interpret-keys=always < n1: a\nn[x]: b\n
clubak --interpret-keys=auto < n[: a\n
clubak --interpret-keys=auto -b < n[: a\n
clubak --interpret-keys=auto < n[1-2]: a\nn[: b\nn[3-4]: c\n
clubak --interpret-keys= < n[1-2]: a\n
clubak --interpret-keys=maybe < n1: a\n
clubak --interpret-keys=never -b < a: 1\nb: 2\nc: 3\n
clubak --interpret-keys=never -r < a: 1\n
clubak --diff < n1: a\nn2: b\n
clubak --diff < n1: a\nn2: a\n
clubak --diff < n1: a\nn1: b\nn2: a\nn2: c\nn3: a\nn3: b\n
clubak --diff -q < n1: a\nn2: a\nn3: b\n
clubak --diff --color=always < n1: a\nn2: b\nn1: same\nn2: same\n
clubak --diff -L < n1: a\n
clubak --diff -v -L < n1: a\n
clubak --diff -N < n1: a\nn2: b\n
clubak --diff < n1: \udcffa\nn2: b\n
clubak --diff -r < web1: a\nweb2: a\nweb3: a\nweb4: a\nx: b\n
clubak --color=always -b < n1: a\nn2: a\n
clubak --color=always -L < n1: a\n
clubak --color=always < n1: a\n
clubak --color=always -N < n1: a\n
clubak --color=never < n1: a\n
clubak --color=auto < n1: a\n
clubak --color= < n1: a\n
clubak --color=sometimes < n1: a\n
clubak --axis=1 -b < r1n1: a\nr1n2: a\nr2n1: a\nr2n2: a\n
clubak --axis=2 -b < r1n1: a\nr1n2: a\nr2n1: a\nr2n2: a\n
clubak --axis=-1 -b < r1n1: a\nr1n2: a\nr2n1: a\nr2n2: a\n
clubak --axis=x -b < n1: a\n
clubak --outdir=out < n1: a\n
clubak --errdir=err -b < n1: a\n
clubak < no separator\n
clubak < n1: a\n\nn2: b\n
clubak < \n
clubak < : a\n
clubak <   : a\n
clubak -v < n1: a\nbad\n
clubak -b < n1: a\nbad\n
clubak -P < n1: a\n
clubak --nosuch <
clubak --version
clubak operand < n1: a\n
clubak -b -N -L -q < n2: a\nn1: a\n
clubak -b < n1: a\nn1:\nn1: b\nn2: a\nn2:\nn2: b\n
clubak -s
clubak -S
clubak -h
clubak --interpret-keys=never -b < a: 1\nb: 1\nc: 1\nd: 1\n
"""


class Difference(NamedTuple):
    """An intended difference from ClusterShell.

    Attributes:
        sentence: the begin of its sentence in docs/clustershell.md.
        ours: the result here; None: it is not fixed.
    """

    sentence: str
    ours: Optional[Result]


_INPUT = "The last line of standard input"
_SEPARATOR = "The escape sequences in `nodeset -S` are decoded"
_COMPLETION = "`nodeset --completion` ends with a traceback in ClusterShell"
_PATTERN = "Patterns that ClusterShell reads in another way"

_SOURCES = "@local:\n@reversed:\n@mapped:\n@file:\n@rack:\n@room:\n@mapless:\n"
_EARLY = "WARNING: empty left operand for set operation\n"

_RANGE = "expected a number, a range as 1-9, or a range with a step as 0-8/2 at character"


def _refused(message: str) -> Result:
    """The result of a pattern that is refused."""
    return 1, "", f"nodeset: Parse error: {message}\n"


#: By command line.
DIFFERENCES: dict[str, Difference] = {
    r"nodeset -f < n1 n22": Difference(_INPUT, (0, "n[1,22]\n", "")),
    r"nodeset -f < n1,n2": Difference(_INPUT, (0, "n[1-2]\n", "")),
    r"nodeset -ll - < web1": Difference(_INPUT, (0, "@both web1\n@web web1\n", "")),
    r"""nodeset -S "'" -e n[1-3]""": Difference(_SEPARATOR, (0, "n1'n2'n3\n", "")),
    r"""nodeset -S "'''" -e n[1-3]""": Difference(_SEPARATOR, (0, "n1'''n2'''n3\n", "")),
    r"""nodeset -S "a'" -e n[1-3]""": Difference(_SEPARATOR, (0, "n1a'n2a'n3\n", "")),
    r"nodeset -S '\d\q' -e n[1-2]": Difference(_SEPARATOR, (0, "n1\\d\\qn2\n", "")),
    r"nodeset --help": Difference("`--help` has this package's words", None),
    r"clubak -h": Difference("`--help` has this package's words", None),
    r"nodeset --completion -a n1": Difference(
        _COMPLETION,
        (
            0,
            f"{_SOURCES}@both\n@db\n@none\n@web\ndb1 db2 n1 spare7 web1 web2 web3 web4\n",
            "",
        ),
    ),
    r"nodeset --completion -x n1 n2": Difference(
        _COMPLETION, (0, f"{_SOURCES}@both\n@db\n@none\n@web\nn2\n", _EARLY)
    ),
    r"nodeset -R -l 1": Difference(
        "`nodeset -R -l` with operands",
        (1, "", "nodeset: -R: numbers are in no groups: leave out -R, or the operands\n"),
    ),
    r"nodeset --groupsconf=other.conf -f @x": Difference(
        "`--groupsconf FILE` may be a name without a directory", (0, "o[1-3]\n", "")
    ),
    r"nodeset --groupsconf=./loop.conf -f @x": Difference(
        "A group that leads to itself", _refused("group loop: @x -> @x: '@x'")
    ),
    r"nodeset --contiguous --autostep=3 -f n[1-9/2]": Difference(
        "`nodeset --contiguous` prints each part", (0, "n1\nn3\nn5\nn7\nn9\n", "")
    ),
    r"nodeset --split=2 --axis=1 -f 'r[1-2]n[1-2]'": Difference(
        "`nodeset --axis` also applies", (0, "r1n1,r1n2\nr2n1,r2n2\n", "")
    ),
    r"nodeset -L -s mapless @reversed:odd": Difference(
        "`nodeset -L NODES` looks groups in groups up",
        (0, "@reversed:odd\n@mapped:one\n@mapped:two\n", ""),
    ),
    r"nodeset -d -c @web": Difference("The lines of `-d`", None),
    r"nodeset -f 'n[1-2-3]'": Difference(
        _PATTERN, _refused(f"bad range: invalid range: {_RANGE} 3 of 'n[1-2-3]': '1-2-3'")
    ),
    r"nodeset -f '[]5'": Difference(
        _PATTERN, _refused(f"bad range: empty range: {_RANGE} 2 of '[]5'")
    ),
    r"nodeset -f '[ 1 - 2 ]5'": Difference(_PATTERN, (0, "[15,25]\n", "")),
    r"nodeset -f '5[-1]'": Difference(
        _PATTERN,
        _refused(
            "bad range: negative numbers cannot be joined with digits at character 2 of '5[-1]': "
            "'-1'"
        ),
    ),
    r"nodeset -f '@'": Difference(
        "The names of groups and nodes are checked",
        _refused(
            "map: '' cannot be used as $GROUP in a command: it has characters that have a meaning "
            'to a shell: "@"'
        ),
    ),
    r"clubak --interpret-keys=never -r < a: 1\n": Difference(
        "`clubak -r` ends with a traceback in ClusterShell",
        (0, "---------------\na\n---------------\n 1\n", ""),
    ),
    r"clubak --interpret-keys=never -b < a: 1\nb: 1\nc: 1\nd: 1\n": Difference(
        "Names that `clubak` does not read as node sets",
        (0, "---------------\na,b,c,d (4)\n---------------\n 1\n", ""),
    ),
}

#: Command lines with random results, which are the same in process only.
BY_CHANCE = {"nodeset --pick 3 -f n[1-1000]", "nodeset --pick 2 -e 'r[1-9]n[1-9]'"}

#: The differences that do not always show: ClusterShell's order is random, and Python warns of an
#: unknown escape sequence from 3.12 on.
NOW_AND_THEN = {
    r"clubak --interpret-keys=never -b < a: 1\nb: 1\nc: 1\nd: 1\n",
    r"nodeset -S '\d\q' -e n[1-2]",
}


def command_lines() -> list[str]:
    """All command lines, as they are written here; each once."""
    found: list[str] = []
    for line in (*read_lines(NODESET), *read_lines(CLUBAK)):
        if line in found:
            raise ValueError(f"{line!r} is there twice")
        found.append(line)
    return found


def read_lines(text: str) -> list[str]:
    """The command lines of a text; one that leaves a quote open goes on in the next line."""
    lines: list[str] = []
    begun = ""
    for line in text.strip().splitlines():
        begun = f"{begun}\n{line}" if begun else line
        try:
            shlex.split(begun.partition(" <")[0])
        except ValueError:
            continue
        if not begun.startswith("#"):
            lines.append(begun)
        begun = ""
    return lines


def parse(line: str) -> Line:
    """The program, the arguments and the standard input of a command line."""
    command, _, text = line.partition(" <")
    program, *arguments = shlex.split(command)
    decoded = text[1:].encode("ascii").decode("unicode_escape")
    return program, arguments, decoded


def write_files(directory: Path) -> None:
    """Write the files that the command lines use."""
    for name, text in FILES.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
