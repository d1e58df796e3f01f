package reload

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watcher notices that files may have changed, however they are replaced: by
// being written, by a rename, or by a link that leads elsewhere, as Kubernetes
// replaces secrets (..data) and certbot certificates. So it watches directories:
// all on the way to the files, links followed.
type watcher struct {
	fs    *fsnotify.Watcher // nil: the system has none left to give
	steps map[string]map[string]bool
}

// newWatcher watches the files, or their places when they are not there. It does
// not follow links and directories that come later: for those a new watcher is
// needed whenever something has changed.
func newWatcher(files []string) *watcher {
	w := &watcher{steps: map[string]map[string]bool{}}
	for _, file := range files {
		eachStep(file, func(dir, name string) {
			if w.steps[dir] == nil {
				w.steps[dir] = map[string]bool{}
			}
			w.steps[dir][name] = true
		})
	}
	var err error
	if w.fs, err = fsnotify.NewWatcher(); err != nil {
		return w
	}
	for dir := range w.steps {
		w.fs.Add(dir) // or not, for want of permission: changes are then found by stamps
	}
	return w
}

func (w *watcher) close() {
	if w.fs != nil {
		w.fs.Close()
	}
}

// reason is why a wait has ended.
type reason int

const (
	ended   reason = iota // its context has
	asked                 // somebody wants the files to be read
	touched               // something on the way to the files has changed
	due                   // the time to look again has come
)

const (
	// settle is how long there has to be no further change before files are read, so
	// that files that belong together are read together.
	settle = 250 * time.Millisecond
	// settleMost is when they are read although changes go on.
	settleMost = 10 * settle
)

// wait waits for a reason to look at the files: the time again at the latest, unless a
// change has come before.
func (w *watcher) wait(ctx context.Context, asks <-chan os.Signal, again time.Duration) reason {
	s := settling{after: time.After}
	s.again = s.after(again)
	var events <-chan fsnotify.Event
	var errs <-chan error
	if w.fs != nil {
		events, errs = w.fs.Events, w.fs.Errors
	}
	for {
		select {
		case <-ctx.Done():
			return ended
		case <-asks:
			return asked
		case <-s.again:
			return due
		case <-s.settled:
			return touched
		case <-s.atLast:
			return touched
		case e := <-events:
			if w.steps[filepath.Dir(e.Name)][filepath.Base(e.Name)] {
				s.changed()
			}
		case <-errs: // events were lost
			s.changed()
		}
	}
}

// settling is the clock of a wait.
type settling struct {
	after                  func(time.Duration) <-chan time.Time
	again, settled, atLast <-chan time.Time
}

// changed has the wait end when there is no further change for a moment, and in any case
// after settleMost from the first one.
func (s *settling) changed() {
	s.settled = s.after(settle)
	if s.atLast == nil {
		s.atLast = s.after(settleMost)
	}
	s.again = nil
}

// eachStep calls visit for every name that is looked up on the way to a file, with
// the directory that it is looked up in.
func eachStep(file string, visit func(dir, name string)) {
	path, err := filepath.Abs(file)
	if err != nil {
		return
	}
	root := filepath.VolumeName(path) + string(filepath.Separator)
	dir, names := root, split(path[len(root):])
	for links := 0; len(names) > 0; {
		name := names[0]
		names = names[1:]
		visit(dir, name)
		next := filepath.Join(dir, name)
		target, err := os.Readlink(next)
		if err != nil { // no link, or nothing at all, and perhaps later
			dir = next
			continue
		}
		if links++; links > 40 { // as many as Linux follows
			return
		}
		if filepath.IsAbs(target) {
			root = filepath.VolumeName(target) + string(filepath.Separator)
			dir, target = root, target[len(root):]
		}
		names = append(split(target), names...)
	}
}

func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, string(filepath.Separator)), func(name string) bool { return name == "" })
}

// stamps are what a file system says about files: all that can be known of a
// change without reading them. They find changes on file systems without change
// notification (NFS).
type stamps []os.FileInfo

func stampsOf(files []string) stamps {
	s := make(stamps, len(files))
	for i, file := range files {
		s[i], _ = os.Stat(file) // nil when it is not there
	}
	return s
}

func (s stamps) equal(other stamps) bool {
	return slices.EqualFunc(s, other, func(a, b os.FileInfo) bool {
		if a == nil || b == nil {
			return a == b
		}
		return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
	})
}
