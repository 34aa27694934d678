# bash completion for cijqemuctl: 'cijqemuctl _complete' knows what may stand where.

_cijqemuctl()
{
	local line=${COMP_LINE:0:COMP_POINT} word candidate part
	local -a words

	# By blanks alone: bash itself splits at '=' and ':' too.
	read -r -a words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=('')
	word=${words[-1]}
	# What bash puts in our place is only what stands behind the last of its own breaks.
	part=${word%"${word##*[=:]}"}

	COMPREPLY=()
	while IFS=$'\t' read -r candidate _; do
		if [[ $candidate == :files ]]; then
			compopt -o filenames
			mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "${word#"$part"}")
			continue
		fi
		[[ $candidate == *= ]] && compopt -o nospace
		COMPREPLY+=("${candidate#"$part"}")
	done < <("${words[0]}" _complete -- "${words[@]:1}" 2>/dev/null)
}

complete -F _cijqemuctl cijqemuctl
