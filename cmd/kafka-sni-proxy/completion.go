package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// commands are the words that may come first. Those that shells use to ask for
// completions are cobra's.
var commands = []string{"check", "completion", "config", "healthcheck", "passwd", "routes", "sessions", "status", "support-bundle", "top"}

var internalCommands = []string{cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}

var shells = []string{"bash", "zsh", "fish"}

const completionHelp = `Print a script with which a shell completes the flags of kafka-sni-proxy.

Usage:
  kafka-sni-proxy completion bash|zsh|fish

To have it in each new shell:
  bash   kafka-sni-proxy completion bash > /etc/bash_completion.d/kafka-sni-proxy
         (needs the package bash-completion)
  zsh    kafka-sni-proxy completion zsh > "${fpath[1]}/_kafka-sni-proxy"
         (once before: echo "autoload -U compinit; compinit" >> ~/.zshrc)
  fish   kafka-sni-proxy completion fish > ~/.config/fish/completions/kafka-sni-proxy.fish

Examples:
` + completionExample + `
`

const completionExample = `  source <(kafka-sni-proxy completion bash)
  kafka-sni-proxy completion bash > /etc/bash_completion.d/kafka-sni-proxy`

func newCompletion(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print a script for a shell's completion",
		ValidArgs: shells,
		Args:      cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, err := io.WriteString(stdout, completionHelp)
				return err
			}
			if len(args) == 1 {
				switch root := cmd.Root(); args[0] {
				case "bash":
					return root.GenBashCompletionV2(stdout, true)
				case "zsh":
					return root.GenZshCompletion(stdout)
				case "fish":
					return root.GenFishCompletion(stdout, true)
				}
			}
			return usageErrors{fmt.Errorf("completion: %q is no shell that is known: choose bash, zsh or fish", args)}
		},
	}
}
