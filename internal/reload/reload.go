// Package reload reads files again while the program runs: when they change, however they
// are replaced, and whenever somebody asks. A [Source] is some files that belong together
// and what was last read from them; a [Group] watches several, and tells its owner which
// have a new value. Files that cannot be used leave in use what was loaded before.
package reload

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// Owner puts to use what was read.
type Owner interface {
	// Reloading is called before the files are read because somebody has asked.
	Reloading()
	// Reloaded is called after the files were read.
	Reloaded(Event)
}

// Event is one reading of the files.
type Event struct {
	// Asked is whether somebody has asked for it.
	Asked bool
	// Changed are the settings of the sources that have a new value.
	Changed []string
}

// Result is what has become of reading files again, for metrics.
type Result struct {
	Changed, Failed int64     // readings that brought something new, and that met a file that cannot be used
	Problems        int       // sources whose files cannot be used now
	LastGood        time.Time // when all files were last found to be good

	Readings []Reading // that brought something new or failed, the newest first
	Unusable []Problem // with the files of those sources
}

// Reading is one reading of the files that brought something new, or failed.
type Reading struct {
	Time            time.Time
	Asked           bool     // whether somebody has asked for it
	Changed, Failed []string // settings
}

// Problem is files that cannot be used. What was read before stays in use.
type Problem struct {
	Setting string
	Files   []string
	Since   time.Time
	Text    string
}

// maxReadings is how many readings are kept.
const maxReadings = 50

const (
	// lookAgain is how often files are compared with their stamps, for changes of
	// which nobody was told.
	lookAgain = 30 * time.Second
	// matchAgain is when to look again at files that did not match when one of them
	// had just changed.
	matchAgain = 2 * time.Second
)

// Group is several sources that are watched together.
type Group struct {
	log   *slog.Logger
	owner Owner
	parts []Part

	replaced bool // by Set

	mu     sync.Mutex
	result Result
}

// NewGroup returns a group of sources that have been loaded.
func NewGroup(log *slog.Logger, owner Owner, sources ...Part) *Group {
	return &Group{log: log, owner: owner, parts: sources, result: Result{LastGood: time.Now()}}
}

// Set replaces the sources, by others that have been loaded. It is for the owner, within
// Reloaded.
func (g *Group) Set(sources ...Part) {
	g.parts, g.replaced = sources, true
}

// isReplaced reports whether Set was called since it was asked last.
func (g *Group) isReplaced() (replaced bool) {
	replaced, g.replaced = g.replaced, false
	return replaced
}

// Result returns what has become of reading files again.
func (g *Group) Result() Result {
	g.mu.Lock()
	defer g.mu.Unlock()
	result := g.result
	result.Readings = slices.Clone(result.Readings)
	slices.Reverse(result.Readings)
	return result
}

// Run reads files again when they change, and whenever somebody asks, until ctx ends.
func (g *Group) Run(ctx context.Context, asks <-chan os.Signal) {
	for why, again := due, lookAgain; why != ended; {
		// Watching begins before reading, so that no change falls in between.
		w := newWatcher(g.files())
		if why != due || again == matchAgain || slices.ContainsFunc(g.parts, Part.stale) {
			again = lookAgain
			if g.read(why) {
				again = matchAgain
			}
		}
		if g.isReplaced() { // by other sources, with other files
			w.close()
			why = due
			continue
		}
		why = w.wait(ctx, asks, again)
		w.close()
	}
}

// files are those of all sources.
func (g *Group) files() (all []string) {
	for _, p := range g.parts {
		all = append(all, p.files()...)
	}
	return all
}

// read reads all files. What is good is used, whatever the others are. It reports whether
// some files did not match yet.
func (g *Group) read(why reason) (isIncomplete bool) {
	event := Event{Asked: why == asked}
	if event.Asked {
		g.owner.Reloading()
	}
	isBad := false
	var isChanged []Part
	reading := Reading{Time: time.Now(), Asked: event.Asked}
	for _, p := range g.parts {
		switch p.refresh(g.log, why) {
		case changed:
			event.Changed = append(event.Changed, p.name())
			isChanged = append(isChanged, p)
		case failed:
			isBad = true
			reading.Failed = append(reading.Failed, p.name())
		case incomplete:
			isIncomplete = true
		}
	}
	isNew := len(event.Changed) > 0
	if event.Asked && !isNew && !isBad {
		g.log.Info("nothing to reload: no file has changed")
	}
	if isNew || isBad || !isIncomplete {
		reading.Changed = event.Changed
		g.note(reading)
	}
	g.owner.Reloaded(event)
	for _, p := range isChanged {
		p.announce(g.log)
	}
	return isIncomplete
}

// note keeps what a reading has led to.
func (g *Group) note(r Reading) {
	var unusable []Problem
	for _, p := range g.parts {
		if problem, ok := p.trouble(); ok {
			unusable = append(unusable, problem)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(r.Changed) > 0 {
		g.result.Changed++
	}
	if len(r.Failed) == 0 {
		g.result.LastGood = r.Time
	} else {
		g.result.Failed++
	}
	g.result.Problems, g.result.Unusable = len(unusable), unusable
	if len(r.Changed)+len(r.Failed) == 0 {
		return
	}
	if last := len(g.result.Readings) - 1; last >= 0 && r.repeats(&g.result.Readings[last]) {
		return // files that are bad are read again and again
	}
	g.result.Readings = append(g.result.Readings, r)
	if extra := len(g.result.Readings) - maxReadings; extra > 0 {
		g.result.Readings = slices.Delete(g.result.Readings, 0, extra)
	}
}

// repeats reports whether a reading tells nothing that an earlier one has not told.
func (r *Reading) repeats(earlier *Reading) bool {
	return !r.Asked && len(r.Changed) == 0 && slices.Equal(r.Failed, earlier.Failed)
}
