// Package top is a live view of a proxy that runs, on a terminal: what it carries, its
// connections, brokers and failures, asked for again and again at its admin port. Run shows
// it until somebody ends it, and leaves the terminal as it was.
//
// model.go is what happens on keys and answers, screen.go what is shown.
package top

import (
	"context"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/view"
)

// Options say what is shown, and where.
type Options struct {
	Client   *api.Client
	Query    api.SessionQuery // of the sessions at first
	Interval time.Duration    // between an answer and the next question
	In, Out  *os.File         // a terminal
	Style    view.Style       // of Out; its width is followed
	// Explain says what to do about an error of Client.
	Explain func(error) error
}

// Run shows the proxy until a key, a signal or the end of ctx ends it. An error says that
// the terminal cannot be used, or that there was no first answer.
func Run(ctx context.Context, o Options) error {
	m := newModel(ctx, o)
	first := m.question().ask(ctx)
	if first.err != nil {
		return o.Explain(first.err)
	}
	m.take(first)
	p := tea.NewProgram(m, tea.WithInput(o.In), tea.WithOutput(o.Out), tea.WithFilter(quitOnInterrupt))
	stop := context.AfterFunc(ctx, p.Quit)
	defer stop()
	defer func() { m.cancel() }()
	_, err := p.Run()
	return err
}

// quitOnInterrupt makes SIGINT as good as Ctrl-C. As an interrupt it would be an error, at
// which the program ends without waiting for what still reads keys.
func quitOnInterrupt(_ tea.Model, msg tea.Msg) tea.Msg {
	if _, ok := msg.(tea.InterruptMsg); ok {
		return tea.QuitMsg{}
	}
	return msg
}
