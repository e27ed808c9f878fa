package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// countProgress shows how far work on many things is: a bar on a terminal, else a line now and then.
type countProgress struct {
	w     io.Writer
	name  string
	total int64 // 0: unknown
	bar   *progressbar.ProgressBar
	told  time.Time
}

func newCountProgress(w io.Writer, name string, total int64) *countProgress {
	p := &countProgress{w: w, name: name, total: total, told: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if total == 0 {
			total = -1
		}
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(name), progressbar.OptionShowCount(),
			progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	return p
}

// at is told how many are done.
func (p *countProgress) at(done int64) {
	switch {
	case p.bar != nil:
		_ = p.bar.Set64(done)
	case time.Since(p.told) < sendLineEvery:
	case p.total > 0:
		p.told = time.Now()
		fmt.Fprintf(p.w, "%s: %d of %d, %d%%\n", p.name, done, p.total, done*100/p.total)
	default:
		p.told = time.Now()
		fmt.Fprintf(p.w, "%s: %d\n", p.name, done)
	}
}

// end leaves the bar as it is.
func (p *countProgress) end() {
	if p.bar != nil {
		_ = p.bar.Exit()
		fmt.Fprintln(p.w)
		p.bar = nil
	}
}
