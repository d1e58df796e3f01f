//go:build !unix

package accesslog

import (
	"io"
	"os"
)

func standardOutput(out io.Writer) file { return unclosed{out} }

func mayMakeFiles(folder string) error {
	_, err := os.Stat(folder)
	return err
}
