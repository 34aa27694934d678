# fish completion for cijqemuctl: 'cijqemuctl _complete' knows what may stand where.

function __cijqemuctl_complete
	set -l words (commandline -opc)
	set -l word (commandline -ct)
	for line in ($words[1] _complete -- $words[2..-1] "$word" 2>/dev/null)
		if test "$line" = :files
			__fish_complete_path (string replace -r '^--[^=]*=' '' -- "$word")
		else
			echo $line
		end
	end
end

complete -c cijqemuctl -f -a '(__cijqemuctl_complete)'
