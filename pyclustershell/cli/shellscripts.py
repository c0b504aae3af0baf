"""The scripts by which shells ask for completions, and the answers to them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import Optional

from .completion import complete
from .wrappers import PROGRAMS

# A break of these is part of the word that begins with it (bash sets rl_special_prefixes to them).
_PREFIXES = "$@"

# Not "-m": it would import modules of the current directory, in which the user presses Tab.
_CODE = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from pyclustershell.cli.shellscripts import main; main(sys.argv[1:])"
)

# readline completes the rest of a word behind its last quote or break; COMP_WORDS has the line cut
# at all breaks, so the whole line is passed. "default" is readline's own completion of files: it
# knows how to quote them.
_BASH = r"""# Completion of {names} for bash 4 or newer.
_pyclustershell() {{
    local kind word
    COMPREPLY=()
    {{
        read -r kind || return
        while IFS= read -r word; do
            COMPREPLY+=("$word")
        done
    }} < <({ask} bash "$1" "${{COMP_LINE:0:COMP_POINT}}" "$COMP_WORDBREAKS" 2>/dev/null)
    case $kind in
        files) compopt -o default ;;
        directories) compopt -o dirnames ;;
        users) COMPREPLY=($(compgen -u -- "$2")) ;;
        commands) COMPREPLY=($(compgen -c -- "$2")) ;;
    esac
    [[ ${{#COMPREPLY[@]}} == 1 && $COMPREPLY == *[:=] ]] && compopt -o nospace
    return 0
}}
complete -F _pyclustershell {names}
"""

_ZSH = r"""#compdef {names}
# Completion of {names} for zsh.
_pyclustershell() {{
    local -a reply closed open
    local -a before=("${{(@Q)words[1,CURRENT-1]}}")
    reply=("${{(@f)$({ask} zsh "${{before[@]}}" "${{(Q)PREFIX}}" 2>/dev/null)}}")
    case $reply[1] in
        words)
            shift reply
            # "@source:" and "key=" are followed by more.
            open=(${{(M)reply:#*(\\:|=)}})
            closed=(${{reply:#*(\\:|=)}})
            _describe word closed -- open -S ''
            ;;
        files) compset -P '--*='; _files ;;
        directories) compset -P '--*='; _files -/ ;;
        users) compset -P '--*='; _users ;;
        commands) _command_names -e ;;
        *) return 1 ;;
    esac
}}
compdef _pyclustershell {names}
"""

_FISH = r"""# Completion of {names} for fish.
function __pyclustershell
    set -l before (commandline -opc)
    set -l token (string trim -l -c "\"'" -- (commandline -ct))
    set -l reply ({ask} fish $before "$token" 2>/dev/null)
    set -l lead (string match -r -- '^--[^=]*=' "$token")
    set -l value (string replace -r -- '^--[^=]*=' '' "$token")
    switch "$reply[1]"
        case words
            printf '%s\n' $reply[2..-1]
        case files
            printf '%s\n' "$lead"(__fish_complete_path "$value")
        case directories
            printf '%s\n' "$lead"(__fish_complete_directories "$value" '')
        case users
            printf '%s\n' "$lead"(__fish_complete_users)
        case commands
            complete -C "$token"
    end
end
for name in {names}
    complete -c $name -e
    complete -c $name -f -a '(__pyclustershell)'
end
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str, names: Sequence[str]) -> str:
    """The script that makes a shell complete the command lines of programs.

    Args:
        shell: one of SCRIPTS.
        names: the programs' names, of PROGRAMS.
    """
    ask = f"{shlex.quote(sys.executable)} -c {shlex.quote(_CODE)}"
    return SCRIPTS[shell].format(names=" ".join(names), ask=ask)


def main(arguments: Sequence[str]) -> None:
    """Answer a shell: its kind, then each word with its description after a tab.

    zsh gets ``word:description``, with a backslash before colons of the word.

    Args:
        arguments: the shell, the program's name, and its arguments up to the cursor. For bash,
            instead of these: the line up to the cursor and $COMP_WORDBREAKS.
    """
    shell, program, *words = arguments
    name = os.path.basename(program)
    cut = 0
    if shell == "bash":
        words, cut = split_line(*words)
        while words and os.path.basename(words.pop(0)) != name:
            pass  # a variable that is set for the program
    if name not in PROGRAMS:
        return
    kind, found = complete(name, words)
    print(kind)
    for word, description in found:
        if shell == "zsh":
            escaped = word.replace("\\", r"\\").replace(":", r"\:")
            print(f"{escaped}:{description}" if description else escaped)
        elif shell == "fish":
            print(f"{word}\t{description}")
        else:
            print(word[cut:])


def split_line(line: str, breaks: str) -> tuple[list[str], int]:
    """The words of a line of bash, as the program will get them.

    Args:
        line: the line up to the cursor.
        breaks: the characters at which readline begins another word ($COMP_WORDBREAKS).

    Returns:
        The words of the last command in the line, without quotes. The last one is that at the
        cursor; it may be empty. And the number of its characters that readline keeps, because
        they precede a quote or a break.
    """
    words: list[str] = []
    word: Optional[str] = None
    quote, kept = "", 0
    chars = iter(line)
    for char in chars:
        if quote:
            if char == quote:
                quote, kept = "", len(word or "")
            else:
                word = (word or "") + char
        elif char in "'\"":
            quote, word = char, word or ""
            kept = len(word)
        elif char.isspace() or char in ";|&(":
            if word is not None:
                words.append(word)
            word, kept = None, 0
            if char in ";|&(\n":
                words.clear()
        else:
            word = (word or "") + (next(chars, "") if char == "\\" else char)
            if char in breaks:
                kept = len(word) - (char in _PREFIXES)
    return [*words, word or ""], kept
