package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kafka-sni-proxy/internal/sasl"
)

const passwdText = `Set the password of a user in a file of users, with which clients can log in at the proxy by PLAIN,
SCRAM-SHA-256 or SCRAM-SHA-512. The file is made if there is none. The password is read from standard
input: one line; on a terminal it is asked for twice, and not shown. It is not in the file, only what
is needed to check it. Everything else in the file stays as it is. A proxy that runs reads the file
again when it has changed.`

const passwdExample = `  kafka-sni-proxy passwd users.scram alice
  kafka-sni-proxy passwd users.scram alice < password.txt
  kafka-sni-proxy passwd --delete users.scram alice`

const passwdEnd = `
Exit codes:
  0   done
  1   the file cannot be read or written, has mistakes, or has no such user to delete; nothing was
      written
  2   usage; the name or the password cannot be one
`

// passwdFlags are the flags of passwd.
type passwdFlags struct {
	remove     bool
	iterations int
}

func (f *passwdFlags) define(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.BoolVar(&f.remove, "delete", false, "delete the user, and read no password")
	fs.IntVar(&f.iterations, "iterations", sasl.DefaultIterations, fmt.Sprintf("`number` of hashes for each guess of the password, %d to %d: more cost more for everybody, at each login", sasl.MinIterations, sasl.MaxIterations))
	fs.BoolP("help", "h", false, "show this help, and exit")
}

func (f *passwdFlags) flagSet() *pflag.FlagSet {
	fs := newFlagSet()
	f.define(fs)
	return fs
}

func passwdHelp() string {
	return fmt.Sprintf("%s\n\nUsage:\n  kafka-sni-proxy passwd [FLAGS] FILE USER\n\nExamples:\n%s\n\nFlags:\n%s%s", passwdText, passwdExample, new(passwdFlags).flagSet().FlagUsagesWrapped(100), passwdEnd)
}

func newPasswdCommand(wrong usageErrors, stdin *os.File, stdout, stderr io.Writer) *cobra.Command {
	f := new(passwdFlags)
	cmd := &cobra.Command{
		Use:                   "passwd [FLAGS] FILE USER",
		Short:                 "Set the password of a user in a file of users",
		Long:                  passwdText,
		Example:               passwdExample,
		Args:                  cobra.ArbitraryArgs,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if wrong := append(wrong, f.check(args)...); len(wrong) > 0 {
				return wrong
			}
			return f.run(cmd.Context(), args[0], args[1], stdin, stdout, stderr)
		},
	}
	f.define(cmd.Flags())
	return cmd
}

// check says what is wrong with the command line. What is too much is not repeated: it
// may be a password.
func (f *passwdFlags) check(args []string) (wrong usageErrors) {
	switch {
	case len(args) < 2:
		wrong = append(wrong, errors.New("passwd: needs a FILE and a USER"))
	case len(args) > 2:
		wrong = append(wrong, errors.New("passwd: takes a FILE and a USER alone: the password is read from standard input, for everybody on the machine can see command lines"))
	case args[0] == "-":
		wrong = append(wrong, errors.New("passwd: the FILE is replaced, so it cannot be standard input"))
	default:
		if err := sasl.CheckUser(args[1]); err != nil && !f.remove {
			wrong = append(wrong, fmt.Errorf("passwd: USER %q: %w", args[1], err))
		}
	}
	if f.iterations < sasl.MinIterations || f.iterations > sasl.MaxIterations {
		wrong = append(wrong, fmt.Errorf("--iterations: is one of %d to %d, not %d", sasl.MinIterations, sasl.MaxIterations, f.iterations))
	}
	return wrong
}

func (f *passwdFlags) run(ctx context.Context, path, user string, stdin *os.File, stdout, stderr io.Writer) error {
	var password sasl.Secret
	if !f.remove {
		var err error
		if password, err = askPassword(ctx, user, stdin, stderr); err != nil {
			return err
		}
		if err := sasl.CheckPassword(password); err != nil {
			return usageErrors{fmt.Errorf("passwd: %w", err)}
		}
	}
	var users *sasl.Users
	err := editUsersFile(ctx, path, func(text []byte) ([]byte, error) {
		if _, err := sasl.ParseUsers(text, sasl.Mask{}); err != nil {
			return nil, fmt.Errorf("nothing was written, for there are mistakes in the file:\n  %s", strings.ReplaceAll(err.Error(), "\n", "\n  "))
		}
		if !f.remove {
			var err error
			if text, err = sasl.SetUser(text, user, password, f.iterations); err != nil {
				return nil, err
			}
		} else {
			had := false
			if text, had = sasl.DeleteUser(text, user); !had {
				return nil, fmt.Errorf("there is no user %q", user)
			}
		}
		var err error
		users, err = sasl.ParseUsers(text, sasl.Mask{})
		return text, err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if n := len([]rune(password.Reveal())); !f.remove && n < 8 {
		fmt.Fprintln(stderr, "warning: the password has fewer than 8 characters: whoever gets the file can find it by trying")
	}
	did := "has a new password, for PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512"
	if f.remove {
		did = "is deleted"
	}
	count := fmt.Sprintf("%d users", users.Len())
	if users.Len() == 1 {
		count = "1 user"
	}
	_, err = fmt.Fprintf(stdout, "%s %s: %s has %s\n", user, did, path, count)
	return err
}

// askPassword reads a password: one line, or, on a terminal, twice the same.
func askPassword(ctx context.Context, user string, stdin *os.File, stderr io.Writer) (sasl.Secret, error) {
	if !term.IsTerminal(stdin.Fd()) {
		return readPassword(stdin)
	}
	first, err := askHidden(ctx, "New password for "+user+": ", stdin, stderr)
	if err != nil {
		return "", err
	}
	again, err := askHidden(ctx, "The same again: ", stdin, stderr)
	if err != nil {
		return "", err
	}
	if first != again {
		return "", errors.New("passwd: these are two different passwords: nothing was written")
	}
	return first, nil
}

// readPassword reads a password that comes from a file or a program.
func readPassword(r io.Reader) (sasl.Secret, error) {
	text, err := io.ReadAll(io.LimitReader(r, 2*sasl.MaxPassword))
	if err != nil {
		return "", fmt.Errorf("passwd: reading the password: %w", err)
	}
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	if len(bytes.TrimSpace(rest)) > 0 {
		return "", usageErrors{errors.New("passwd: standard input has more than one line: a password is one line")}
	}
	return sasl.Secret(bytes.TrimSuffix(line, []byte("\r"))), nil
}

// askHidden reads a line of a terminal that does not show it. A signal leaves the
// terminal as it was.
func askHidden(ctx context.Context, prompt string, tty *os.File, stderr io.Writer) (sasl.Secret, error) {
	before, err := term.GetState(tty.Fd())
	if err != nil {
		return "", err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	type answer struct {
		text []byte
		err  error
	}
	// Nothing ends a read of a terminal, so after a signal it ends with the process.
	answered := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(tty.Fd())
		answered <- answer{text, err}
	}()
	// It is asked when nothing is shown any more, or what is typed at once would be. A
	// terminal that shows nothing from the beginning is waited for in vain.
	for range 100 {
		if now, err := term.GetState(tty.Fd()); err != nil || !reflect.DeepEqual(now, before) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Fprint(stderr, prompt)
	select {
	case a := <-answered:
		fmt.Fprintln(stderr)
		return sasl.Secret(a.text), a.err
	case <-ctx.Done():
		term.Restore(tty.Fd(), before)
		fmt.Fprintln(stderr)
		return "", errors.New("passwd: interrupted: nothing was written")
	}
}

// editPatience is how long a command waits for another that edits the same file, and
// after which one is taken for dead.
const editPatience = 10 * time.Second

// editUsersFile replaces a file by what edit makes of its text, at once and whole.
// The new file exists from the beginning, and keeps other commands out. What is
// made new can be read by its owner alone; what there was keeps its owner, and its
// group may read it if it could.
func editUsersFile(ctx context.Context, path string, edit func(text []byte) ([]byte, error)) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // the link stays one
	}
	draft := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".passwd")
	f, err := createAlone(ctx, draft)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(draft)
		}
	}()
	text, info, err := readUsersFile(path)
	if err != nil {
		return err
	}
	if text, err = edit(text); err != nil {
		return err
	}
	if info != nil {
		if err := keepOwner(f, info); err != nil {
			return fmt.Errorf("the new file cannot have the owner of the old one: %w", err)
		}
		if err := f.Chmod(info.Mode().Perm() & 0o640); err != nil {
			return err
		}
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(draft, path)
}

// createAlone makes a file that does not exist, and waits until it does not.
func createAlone(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
		if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > editPatience {
			os.Remove(path) // of a command that was killed: they live for milliseconds
			continue
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// readUsersFile reads a file of users; info is nil if there is none.
func readUsersFile(path string) (text []byte, info fs.FileInfo, err error) {
	info, err = os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, errors.New("is not a file")
	case info.Size() > sasl.MaxUsersFile:
		return nil, nil, fmt.Errorf("has %d bytes: it may have %d", info.Size(), sasl.MaxUsersFile)
	}
	text, err = os.ReadFile(path)
	return text, info, err
}
