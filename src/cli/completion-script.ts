// Completion scripts for bash, zsh and fish, made from the command tree: what is completed is what the parser takes.
import type { Command, Option } from 'commander';

/** Shells that there are scripts for. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

interface Node {
  /** Words that lead here, without the program's name. */
  readonly path: string;
  readonly commands: readonly string[];
  readonly options: readonly string[];
  /** Options that take the next word as their value. */
  readonly valued: readonly string[];
}

function nodesOf(command: Command, path: readonly string[] = []): readonly Node[] {
  const visible = command.createHelp().visibleCommands(command);
  const options = command.createHelp().visibleOptions(command);
  const spelled = (option: Option): string[] => [option.short, option.long].filter((one) => one !== undefined);
  const own: Node = {
    path: path.join(' '),
    commands: visible.map((one) => one.name()),
    options: options.flatMap(spelled),
    valued: options.filter((option) => option.required).flatMap(spelled),
  };
  return [own, ...command.commands.flatMap((child) => nodesOf(child, [...path, child.name()]))];
}

/** The script of a shell for a whole command tree. */
export function completionScript(program: Command, shell: (typeof SHELLS)[number]): string {
  const nodes = nodesOf(program);
  const name = program.name();
  if (shell === 'bash') return bashScript(name, nodes);
  return shell === 'zsh' ? zshScript(name, nodes) : fishScript(name, nodes);
}

/** A `case` of POSIX shells: by path, the words to set. */
function caseLines(nodes: readonly Node[]): string {
  return nodes
    .map(
      ({ path, commands, options, valued }) =>
        `    '${path}') commands='${commands.join(' ')}' options='${options.join(' ')}' valued=' ${valued.join(' ')} ' ;;`,
    )
    .join('\n');
}

function bashScript(name: string, nodes: readonly Node[]): string {
  return `# bash completion of ${name}. Load it with: source <(${name} completion bash)
_${name}_node() {
  case "$1" in
${caseLines(nodes)}
    *) return 1 ;;
  esac
}
_${name}_complete() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path='' word commands options valued skip=''
  _${name}_node ''
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [ "$word" = '--' ]; then COMPREPLY=(); return 0; fi
    if [ -n "$skip" ]; then skip=''; continue; fi
    if [[ "$word" == -* ]]; then
      if [[ "$valued" == *" $word "* ]]; then skip=1; fi
    elif [[ " $commands " == *" $word "* ]]; then
      path="\${path:+$path }$word"
      _${name}_node "$path" || return 0
    fi
  done
  COMPREPLY=()
  if [ -n "$skip" ]; then
    COMPREPLY=($(compgen -f -- "$current"))
  elif [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  else
    COMPREPLY=($(compgen -W "$commands" -- "$current"))
  fi
}
complete -o default -F _${name}_complete ${name}
`;
}

function zshScript(name: string, nodes: readonly Node[]): string {
  return `#compdef ${name}
# zsh completion of ${name}. Load it with: source <(${name} completion zsh)
_${name}_node() {
  case "$1" in
${caseLines(nodes)}
    *) return 1 ;;
  esac
}
_${name}() {
  local current="\${words[CURRENT]}" at='' word commands options valued skip=''
  _${name}_node ''
  for word in "\${(@)words[2,CURRENT-1]}"; do
    if [[ "$word" == '--' ]]; then _files; return; fi
    if [[ -n "$skip" ]]; then skip=''; continue; fi
    if [[ "$word" == -* ]]; then
      if [[ "$valued" == *" $word "* ]]; then skip=1; fi
    elif [[ " $commands " == *" $word "* ]]; then
      at="\${at:+$at }$word"
      _${name}_node "$at" || return
    fi
  done
  if [[ -n "$skip" ]]; then _files
  elif [[ "$current" == -* ]]; then compadd -- \${=options}
  elif [[ -n "$commands" ]]; then compadd -- \${=commands}
  else _files
  fi
}
compdef _${name} ${name}
`;
}

function fishScript(name: string, nodes: readonly Node[]): string {
  const cases = nodes
    .map(
      ({ path, commands, options, valued }) =>
        `    case '${path}'\n      set -g __${name}_commands ${commands.join(' ')}\n` +
        `      set -g __${name}_options ${options.join(' ')}\n      set -g __${name}_valued ${valued.join(' ')}`,
    )
    .join('\n');
  return `# fish completion of ${name}. Load it with: ${name} completion fish | source
function __${name}_node
  switch "$argv[1]"
${cases}
    case '*'
      return 1
  end
end
function __${name}_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -l path ''
  set -l skip 0
  __${name}_node ''
  for word in $words[2..-1]
    if test "$word" = '--'
      return
    end
    if test $skip -eq 1
      set skip 0
      continue
    end
    if string match -q -- '-*' "$word"
      contains -- "$word" $__${name}_valued; and set skip 1
    else if contains -- "$word" $__${name}_commands
      set path (string trim -- "$path $word")
      __${name}_node "$path"; or return
    end
  end
  if test $skip -eq 1
    __fish_complete_path "$current"
  else if string match -q -- '-*' "$current"
    printf '%s\\n' $__${name}_options
  else
    printf '%s\\n' $__${name}_commands
  end
end
complete -c ${name} -f -a '(__${name}_complete)'
`;
}
