package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"eventrouter/pkg/upload"
)

// sendProgress shows how far a file is sent: a bar on a terminal, else a line now and then. The bar is schollz/progressbar: it is kept up, knows the
// width of terminals, and brings but two small modules.
type sendProgress struct {
	w    io.Writer
	name string
	size int64 // 0: unknown
	bar  *progressbar.ProgressBar
	told time.Time
}

const sendLineEvery = 10 * time.Second

func newSendProgress(w io.Writer, name string, size int64) *sendProgress {
	p := &sendProgress{w: w, name: name, size: size, told: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		total := size
		if total == 0 {
			total = -1
		}
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(name), progressbar.OptionShowBytes(true),
			progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	return p
}

// at is told where the upload stands, and how many bytes of the file are read.
func (p *sendProgress) at(done upload.Progress, read int64) {
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("%s: %d accepted, %d rejected", p.name, done.Accepted, done.Rejected))
		_ = p.bar.Set64(read)
		return
	}
	if time.Since(p.told) < sendLineEvery {
		return
	}
	p.told = time.Now()
	share := ""
	if p.size > 0 {
		share = fmt.Sprintf(", %d%%", read*100/p.size)
	}
	fmt.Fprintf(p.w, "%s: %d accepted, %d rejected%s\n", p.name, done.Accepted, done.Rejected, share)
}

// waiting says why nothing happens.
func (p *sendProgress) waiting(why error, d time.Duration) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintf(p.w, "%s: %s; again in %v\n", p.name, cell(why.Error()), d.Round(100*time.Millisecond))
}

// end leaves the bar as it is.
func (p *sendProgress) end() {
	if p.bar != nil {
		_ = p.bar.Exit()
		fmt.Fprintln(p.w)
		p.bar = nil
	}
}
