package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

type demoCmd struct {
	Once    bool   `help:"Exit after the first burst: status 0 only if HubSpot holds just what was posted."`
	Persons int    `default:"200" help:"Visitors in the burst; each makes about ten events."`
	Addr    string `default:"127.0.0.1:8001" help:"Where the router listens; another port is taken if it is in use."`
	HubSpot string `name:"hubspot" default:"127.0.0.1:8002" help:"Where the HubSpot sandbox listens; likewise."`
}

// Help is shown by router demo --help.
func (demoCmd) Help() string {
	return `Starts the router, with its log and store in a temporary directory, and a HubSpot sandbox with HubSpot's limits and error bodies. Posts events as
Jitsu's SDK sends them over HTTP, and shows what is in "HubSpot" in the end and why the rest is not. Goes on running, so that you can post your own.`
}

//go:embed demo/demo.yaml
var demoConfig []byte

const (
	demoHub      = "20546336"
	demoToken    = "pat-na1-demo"
	demoDuration = 3 * time.Second // over which the burst is spread
	demoPatience = time.Minute
)

// Run implements the command.
func (c *demoCmd) Run(ctx context.Context, s streams) error {
	if c.Persons < 1 {
		return usageError{errors.New("--persons must be at least 1")}
	}
	dir, err := os.MkdirTemp("", "router-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	hubspotListener, err := listenNear(c.HubSpot)
	if err != nil {
		return err
	}
	routerListener, err := listenNear(c.Addr)
	if err != nil {
		return err
	}
	env := map[string]string{
		"DEMO_DATA": dir, "DEMO_PORT": "0", "DEMO_HUBSPOT": "http://" + hubspotListener.Addr().String(),
	}
	cfg, err := config.Parse("demo.yaml", demoConfig, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		return fmt.Errorf("BUG: demo configuration: %w", err)
	}
	hub := sandbox.New(sandbox.Options{
		HubID: demoHub, Token: demoToken, Burst: 190, Daily: 625_000, EventsPerSecond: 1250, Lag: 300 * time.Millisecond,
		Properties: demoProperties(),
	})
	srv, err := newService(cfg, slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: cfg.Server.LogLevel})), nil)
	if err != nil {
		return err
	}
	d := &demo{out: s.out, hub: hub, srv: srv, router: "http://" + routerListener.Addr().String(), hubspot: "http://" + hubspotListener.Addr().String()}

	// The router outlives the sandbox's last call, so it is stopped first.
	hubCtx, stopHub := context.WithCancel(context.WithoutCancel(ctx))
	hubDone := make(chan error, 1)
	go func() { hubDone <- serveHTTP(hubCtx, hubspotListener, hub) }()
	g, serveCtx := errgroup.WithContext(ctx)
	serveCtx, stop := context.WithCancel(serveCtx)
	g.Go(func() error { return srv.run(serveCtx, routerListener) })
	g.Go(func() error {
		defer stop()
		err := d.burst(serveCtx, c.Persons)
		if c.Once || err != nil {
			return err
		}
		d.invite()
		<-ctx.Done()
		return nil
	})
	err = g.Wait()
	stopHub()
	if hubErr := <-hubDone; err == nil {
		err = hubErr
	}
	if c.Once && err == nil {
		fmt.Fprintln(s.out, d.verdict)
	}
	return err
}

// listenNear listens at addr, or at any free port of its host when that one is taken.
func listenNear(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		return ln, nil
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil, usageError{err}
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return net.Listen("tcp", net.JoinHostPort(host, "0"))
}

// demoProperties are the account's own contact properties.
func demoProperties() []sandbox.Property {
	plan := sandbox.Property{Name: "plan", Label: "Plan", Type: "enumeration", FieldType: "select", GroupName: "contactinformation"}
	for i, p := range plans {
		plan.Options = append(plan.Options, sandbox.Option{Label: strings.ToUpper(p[:1]) + p[1:], Value: p, DisplayOrder: i})
	}
	return []sandbox.Property{
		plan,
		{Name: "job_title", Label: "Job title", Type: "string", FieldType: "text", GroupName: "contactinformation"},
		{Name: "score", Label: "Score", Type: "number", FieldType: "number", GroupName: "contactinformation"},
	}
}

// demo is one run.
type demo struct {
	out             io.Writer
	hub             *sandbox.Sandbox
	srv             *service
	router, hubspot string
	verdict         string
}

// burst posts the stream, waits until all of it is delivered, and reports.
func (d *demo) burst(ctx context.Context, persons int) error {
	journeys, want := demoStream(persons, time.Now().Add(-time.Hour))
	fmt.Fprintf(d.out, "router at %s, HubSpot sandbox at %s\nposting %d events of %d visitors, by the protocols of Jitsu and Segment ...\n", d.router, d.hubspot, want.posted, len(journeys))
	var posted atomic.Int64
	progress := d.progress(&posted, want.posted)
	err := d.post(ctx, journeys, &posted)
	if err == nil {
		err = d.settle(ctx)
	}
	progress()
	if err != nil {
		return err
	}
	return d.report(want)
}

// post sends the journeys, eight visitors at a time; each visitor waits for an answer before the next request.
func (d *demo) post(ctx context.Context, journeys []journey, posted *atomic.Int64) error {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	pace := time.NewTicker(max(demoDuration/time.Duration(len(journeys)), time.Microsecond))
	defer pace.Stop()
	for _, j := range journeys {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), g.Wait())
		}
		g.Go(func() error {
			for _, p := range j {
				if err := d.postOne(ctx, client, p); err != nil {
					return err
				}
				posted.Add(int64(strings.Count(p.body, `"event_type"`)))
			}
			return nil
		})
	}
	return g.Wait()
}

func (d *demo) postOne(ctx context.Context, client *http.Client, p post) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.router+p.path, strings.NewReader(p.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1000))
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the router answered %s: %s", res.Status, answer)
	}
	return nil
}

// settle waits until everything that was accepted is delivered.
func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !d.srv.router.Idle() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not all is delivered after %s: %w", demoPatience, ctx.Err())
		}
	}
	return nil
}

// progress shows how far the burst is, on a terminal as one line, else not at all; the function it returns ends that.
func (d *demo) progress(posted *atomic.Int64, total int) (end func()) {
	f, isFile := d.out.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	show := func() {
		n := int(posted.Load())
		const width = 30
		bar := strings.Repeat("=", n*width/total) + strings.Repeat(" ", width-n*width/total)
		fmt.Fprintf(d.out, "\r[%s] %d/%d accepted, in HubSpot: %d contacts, %d events ", bar, n, total, d.hub.ContactCount(), d.hub.EventCount())
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show()
			case <-stop:
				show()
				fmt.Fprintln(d.out)
				return
			}
		}
	}()
	return func() { close(stop); <-done }
}

// invite says how to go on.
func (d *demo) invite() {
	fmt.Fprintf(d.out, `
Now post an event of your own, and see it arrive:

  curl '%[1]s%[3]s' -d '{"event_type":"user_identify","user":{"id":"me","email":"me@example.com","firstname":"Me","Job Title":"CTO"}}'
  curl '%[1]s%[3]s' -d '{"event_type":"tried_the_demo","user":{"id":"me"},"rating":5}'
  curl %[1]s/v1/track -u %[4]s: -d '{"event":"Tried Segment","userId":"me"}'
  curl '%[2]s/_sandbox/contacts?email=me@example.com'
  curl '%[2]s/_sandbox/events?email=me@example.com'

Or look at all that HubSpot holds in a browser: %[2]s/_sandbox

What the router counts: curl %[1]s/metrics        How its lanes are: curl %[1]s/readyz
Ctrl-C ends the demo and removes its data.
`, d.router, d.hubspot, serverPath, demoServerKey)
}
