package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"eventrouter/pkg/upload"
)

type sendCmd struct {
	Files         []string      `arg:"" name:"FILE" help:"Files of events, one JSON object a line, also gzip; - is standard input."`
	URL           string        `default:"http://localhost:8001" placeholder:"URL" help:"The router's address."`
	Token         string        `env:"ROUTER_TOKEN" placeholder:"SECRET" help:"Server secret of the API key. Better in the environment or a file: other users see command lines."`
	TokenFile     string        `type:"path" placeholder:"FILE" help:"File that holds it."`
	Gzip          bool          `help:"Compress what is sent."`
	Resume        bool          `default:"true" negatable:"" help:"Go on where an earlier run has stopped; --no-resume sends all of it."`
	SkipMalformed bool          `help:"Pass over lines that hold no event, and report them; else the first one ends the file."`
	Fallback      bool          `help:"The lines are those of Jitsu's fallback files."`
	Chunk         int           `default:"4" placeholder:"MIB" help:"Lines in one request, in MiB."`
	MaxWait       time.Duration `default:"10m" help:"Give up when the router has taken nothing for so long."`
	StateDir      string        `type:"path" placeholder:"DIR" help:"Where it is kept how far files were sent. Default: the user's cache directory."`
}

// Help is shown by router send --help.
func (sendCmd) Help() string {
	return `Uploads files of any size to POST /api/v1/events/bulk in pieces. It waits while the router is full, restarts or cannot be reached, and a later run of
the same command goes on where one was interrupted. Nothing counts twice, as long as the router remembers event ids (server.dedupe).

  ROUTER_TOKEN=s2s.secret router send --url https://router.example.com history.ndjson.gz

Exit status: 0 all is accepted, 1 some lines are rejected or a file was not sent to its end, 2 a wrong command line.`
}

// Run implements the command.
func (c *sendCmd) Run(ctx context.Context, s streams) error {
	if err := c.check(); err != nil {
		return usageError{err}
	}
	var sum upload.Progress
	began, sent := time.Now(), int64(0)
	var failed error
	for _, file := range c.Files {
		p, news, err := c.send(ctx, s, file)
		sum.Accepted += p.Accepted
		sum.Rejected += p.Rejected
		sent += news
		if err != nil {
			failed = fmt.Errorf("%s: %w", file, err)
			break
		}
	}
	took := time.Since(began)
	fmt.Fprintf(s.out, "%s: %d accepted, %d rejected; %s in %.1f s, %.0f a second\n", count(len(c.Files), "file"), sum.Accepted, sum.Rejected,
		count(int(sent), "event"), took.Seconds(), float64(sent)/max(took.Seconds(), 0.001))
	switch {
	case failed != nil:
		return failed
	case sum.Rejected > 0:
		return fmt.Errorf("%s rejected", count(int(sum.Rejected), "line"))
	}
	return nil
}

// check looks at the flags, and reads the token's file.
func (c *sendCmd) check() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return errors.New("--url: write the router's address, such as https://router.example.com; the token goes into --token")
	}
	if c.TokenFile != "" {
		text, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		c.Token = string(text)
	}
	c.Token = strings.TrimSpace(c.Token)
	switch {
	case c.Token == "":
		return errors.New("no token: set ROUTER_TOKEN, or --token-file, to the server_secret of an API key")
	case strings.ContainsAny(c.Token, "\r\n\x00"):
		return errors.New("the token must be one line")
	case c.Chunk < 1 || c.Chunk > 64:
		return errors.New("--chunk must be from 1 to 64 (MiB)")
	case c.MaxWait <= 0:
		return errors.New("--max-wait must be more than 0s")
	}
	if c.StateDir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("%w: name a directory with --state-dir", err)
		}
		c.StateDir = filepath.Join(cache, "router", "send")
	}
	return nil
}

// send sends one file. news is how many events were accepted by this run.
func (c *sendCmd) send(ctx context.Context, s streams, file string) (p upload.Progress, news int64, err error) {
	if file == "-" {
		p, err = c.stream(ctx, s, "standard input", os.Stdin, 0, upload.Options{ID: "send-" + rand.Text()}, func(upload.Progress) error { return nil })
		if err != nil {
			err = fmt.Errorf("%w (all lines before %d are sent)", err, p.Line)
		}
		return p, p.Accepted, err
	}
	state, err := upload.OpenState(c.StateDir, file, c.URL, !c.Resume)
	if errors.Is(err, upload.ErrChanged) {
		return p, 0, fmt.Errorf("%w; --no-resume sends all of it as a new file, whose lines without an event id then count again", err)
	}
	if err != nil {
		return p, 0, err
	}
	from := state.Progress
	switch {
	case state.Done:
		fmt.Fprintf(s.err, "%s: was sent whole at %s; --no-resume sends it again\n", file, state.At.Local().Format(time.DateTime))
		return from, 0, nil
	case from.Line > 1:
		fmt.Fprintf(s.err, "%s: going on at line %d\n", file, from.Line)
	}
	f, err := os.Open(file)
	if err != nil {
		return p, 0, err
	}
	defer f.Close()
	p, err = c.stream(ctx, s, file, f, state.Size, upload.Options{ID: state.ID, From: from}, func(p upload.Progress) error { return state.Save(p, false) })
	news = p.Accepted - from.Accepted
	var rejected *upload.RejectedError
	switch {
	case err == nil && !state.Unchanged():
		return p, news, errors.New("was changed while it was sent: what was changed is not sent, or in part")
	case err == nil:
		return p, news, state.Save(p, true)
	case errors.As(err, &rejected) && len(rejected.Lines) > 0:
		printBadLines(s, rejected.Lines)
		err = fmt.Errorf("%w; all lines before %d are sent. Or pass over such lines with --skip-malformed", err, p.Line)
	case rejected != nil:
	case p.Line <= 1:
		err = fmt.Errorf("%w (nothing of it is sent)", err)
	default:
		err = fmt.Errorf("%w (all lines before %d are sent; the same command goes on there)", err, p.Line)
	}
	return p, news, errors.Join(err, state.Save(p, false))
}

// stream sends what r holds, with a bar on a terminal.
func (c *sendCmd) stream(ctx context.Context, s streams, name string, r io.Reader, size int64, o upload.Options, save func(upload.Progress) error) (upload.Progress, error) {
	read := &countedReader{Reader: r}
	text, err := openLines(read, o.From.Offset)
	if err != nil {
		return o.From, err
	}
	shown := newSendProgress(s.err, name, size)
	defer shown.end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o.URL, o.Token, o.Gzip, o.PieceBytes, o.MaxWait = c.URL, c.Token, c.Gzip, c.Chunk<<20, c.MaxWait
	o.SkipMalformed, o.Fallback = c.SkipMalformed, c.Fallback
	o.Progress = func(p upload.Progress) {
		shown.at(p, read.n)
		if err := save(p); err != nil {
			cancel(err)
		}
	}
	o.Waiting = shown.waiting
	p, err := upload.Send(ctx, text, o)
	shown.end()
	if errors.Is(err, context.Canceled) {
		if err = context.Cause(ctx); errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
	}
	if err == nil {
		printBadLines(s, p.Errors)
	}
	return p, err
}

func printBadLines(s streams, lines []upload.BadLine) {
	const most = 20
	for i, l := range lines {
		if i == most {
			fmt.Fprintf(s.err, "  and %d more\n", len(lines)-most)
			break
		}
		fmt.Fprintf(s.err, "  line %d: %s\n", l.Line, cell(l.Reason))
	}
}

// openLines decompresses what is gzip and goes forward to an offset of the text.
func openLines(r *countedReader, offset int64) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	begin, err := in.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var text io.Reader = in
	if bytes.Equal(begin, []byte{0x1f, 0x8b}) {
		if text, err = gzip.NewReader(in); err != nil {
			return nil, err
		}
	}
	if _, err := io.CopyN(io.Discard, text, offset); err != nil {
		return nil, fmt.Errorf("going forward to byte %d: %w", offset, err)
	}
	return text, nil
}

// countedReader counts what is read.
type countedReader struct {
	io.Reader
	n int64
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	return n, err
}
