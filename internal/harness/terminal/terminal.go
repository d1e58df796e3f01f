// Package terminal runs a program in a pseudo terminal, as a person would, and tells what can
// be seen there. The programs of the harness and tests use it:
//
//	t, err := terminal.Start(cmd, 80, 24)
//	defer t.Close()
//	t.Press("q")
//	<-t.Changed; t.Lines()
package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/charmbracelet/x/term"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

// Terminal is a terminal in which a program runs, and what it shows. Its methods may be called
// concurrently.
type Terminal struct {
	// Changed has an element when something was written since it was received from last.
	Changed <-chan struct{}
	// Ended is closed when the program has ended. Its state is in the command.
	Ended <-chan struct{}

	ptmx     *os.File    // our end
	tty      *os.File    // the program's
	before   *term.State // of tty
	changed  chan struct{}
	shown    sync.WaitGroup // show
	replied  sync.WaitGroup // reply
	mu       sync.Mutex
	emulator *vt.Emulator
	title    string
}

// ErrNone is of a machine that has no pseudo terminals.
var ErrNone = errors.New("there are no pseudo terminals here")

// Start starts a program in a terminal of so many columns and rows. Whoever has made the
// command ends it: by its context, at the latest. The error may be [ErrNone].
func Start(cmd *exec.Cmd, columns, rows int) (*Terminal, error) {
	ptmx, tty, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	changed, ended := make(chan struct{}, 1), make(chan struct{})
	t := &Terminal{Changed: changed, Ended: ended, changed: changed, ptmx: ptmx, tty: tty, emulator: vt.NewEmulator(columns, rows)}
	t.emulator.SetCallbacks(vt.Callbacks{Title: func(title string) { t.title = title }})
	err = pty.Setsize(ptmx, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)})
	if err == nil {
		t.before, err = term.GetState(tty.Fd())
	}
	if err == nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		control(cmd)
		err = cmd.Start()
	}
	if err != nil {
		ptmx.Close()
		tty.Close()
		return nil, err
	}
	t.shown.Go(t.show)
	t.replied.Go(t.reply)
	go func() { cmd.Wait(); close(ended) }()
	return t, nil
}

// Close waits for the end of the program, and closes the terminal. Lines are all that was to be
// seen in the end.
func (t *Terminal) Close() {
	<-t.Ended
	t.tty.Close()
	t.shown.Wait()
	t.ptmx.Close()
	t.emulator.InputPipe().(io.Closer).Close() // Close of the emulator races with its Read
	t.replied.Wait()
}

// show has the emulator show what the program writes.
func (t *Terminal) show() {
	for buffer := make([]byte, 64<<10); ; {
		n, err := t.ptmx.Read(buffer)
		t.mu.Lock()
		t.emulator.Write(buffer[:n])
		t.mu.Unlock()
		select {
		case t.changed <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// reply sends what the terminal answers to the program's questions.
func (t *Terminal) reply() {
	for buffer := make([]byte, 1024); ; {
		n, err := t.emulator.Read(buffer)
		if err != nil {
			return
		}
		t.ptmx.Write(buffer[:n])
	}
}

// Lines are what can be seen, one for each row, without blanks at the end.
func (t *Terminal) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for row := range t.emulator.Height() {
		var line strings.Builder
		for column := range t.emulator.Width() {
			if cell := t.emulator.CellAt(column, row); cell != nil {
				line.WriteString(cell.Content)
			}
		}
		all = append(all, strings.TrimRight(line.String(), " "))
	}
	return all
}

// Press sends keys, as a terminal does.
func (t *Terminal) Press(keys string) error {
	_, err := t.ptmx.WriteString(keys)
	return err
}

// Resize changes the size, as the window of a terminal does.
func (t *Terminal) Resize(columns, rows int) error {
	t.mu.Lock()
	t.emulator.Resize(columns, rows)
	t.mu.Unlock()
	return pty.Setsize(t.ptmx, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)})
}

// Title is what the program has set as the title of the window.
func (t *Terminal) Title() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.title
}

// Plain reports whether the first screen is shown, with a cursor, as before a program that
// takes the whole screen.
func (t *Terminal) Plain() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.emulator.IsAltScreen() && !t.emulator.CursorHidden()
}

// Modes returns the modes of the terminal (termios) before the program was started, and now.
func (t *Terminal) Modes() (before, now *term.State, err error) {
	now, err = term.GetState(t.tty.Fd())
	return t.before, now, err
}
