package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/log"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

type checkCmd struct {
	configFlag
	Live bool `help:"Ask the remotes too, without writing anything: token, account, scopes, tier, properties, events and quota."`
}

// Run implements the command.
func (c *checkCmd) Run(ctx context.Context, s streams) error {
	l := loader{path: c.Config, fresh: fetched(config.NewElsewhere(nil)), good: kept, strict: true}
	loaded, err := l.load(ctx)
	if err != nil {
		return withoutFile(err)
	}
	cfg := loaded.cfg
	if err := checkCertificate(cfg); err != nil {
		return err
	}
	for _, a := range cfg.Elsewhere {
		if t, ok := loaded.troubles[a]; ok {
			fmt.Fprintf(s.out, "warning: %s cannot be read from %s: %s; checked instead is the version of %s, which the router keeps\n",
				a.Part, a, strings.Join(t.lines, "; "), loaded.versions[a].At.UTC().Format(time.RFC3339))
		}
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(s.out, "warning:", w)
	}
	if err := checkKeys(s, cfg); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s: ok: %s, %s, %s\n", c.Config, count(len(cfg.APIKeys), "API key"), count(len(cfg.Destinations), "destination"),
		count(len(cfg.Warnings), "warning"))
	if c.Live {
		return checkLive(ctx, s, cfg, quiet(&destinations.Shared{}, nil))
	}
	return nil
}

type versionCmd struct{}

// Run implements the command.
func (versionCmd) Run(s streams) error {
	fmt.Fprintf(s.out, "router %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// version is the module's version, as the Go tool put it into the binary.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "development"
	}
	return info.Main.Version
}

type sandboxCmd struct {
	Addr  string `default:"127.0.0.1:8002" help:"Address to listen on."`
	HubID string `default:"20546336" help:"Hub id of the account."`
	Token string `help:"The access token to accept. Default: any."`
	Burst int    `default:"190" help:"CRM calls per ten seconds, as HubSpot's plans have them (100, 110, 190, 250); 0: no limit."`
	Daily int    `default:"0" help:"CRM calls per day; 0: no limit."`
}

// Help is shown by router sandbox --help.
func (sandboxCmd) Help() string {
	return `Point a destination at it with hubspot.base_url: http://127.0.0.1:8002, or HubSpot's own client. What it holds is at /_sandbox.`
}

// Run implements the command.
func (c *sandboxCmd) Run(ctx context.Context, s streams) error {
	ln, err := listen(c.Addr, "--addr")
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "HubSpot sandbox (hub %s) at http://%s, its contents at http://%s/_sandbox\n", c.HubID, ln.Addr(), ln.Addr())
	return serveHTTP(ctx, ln, sandbox.New(sandbox.Options{HubID: c.HubID, Token: c.Token, Burst: c.Burst, Daily: c.Daily}))
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stopped := context.AfterFunc(ctx, func() { srv.Close() })
	defer stopped()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// cell is text from outside for one cell of a table on a terminal: short, and without control characters, which could forge lines.
func cell(text string) string {
	const most = 120
	if text == "" {
		return "-"
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return utf8.RuneError
	}, text)
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

type logCmd struct {
	Salvage salvageCmd `cmd:"" help:"Pass over damaged parts of the log and report them, so that a router that refuses to start can."`
}

type salvageCmd struct {
	configFlag
}

// Help is shown by router log salvage --help.
func (salvageCmd) Help() string {
	return `Only needed when a start is refused because the log is damaged, with the router stopped. Original files are kept beside the repaired ones.`
}

// Run implements the command.
func (c *salvageCmd) Run(s streams) error {
	cfg, err := load(c.Config)
	if err != nil {
		return err
	}
	live, bulk := sortedUpTo(cfg.Server)
	logs, damaged := 0, 0
	for _, l := range []struct {
		dir    string
		sorted log.Offset
	}{{logDir(cfg.Server.DataDir), live}, {bulkLogDir(cfg.Server.DataDir), bulk}} {
		// Looked at first: Salvage would make the directory, and a mistyped one would look like a sound log.
		if _, err := os.Stat(l.dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		damage, err := log.Salvage(l.dir, log.Options{MaxBytes: cfg.Server.MaxLogBytes, Keys: cfg.Server.Encryption.Keys})
		if errors.Is(err, log.ErrInUse) {
			return fmt.Errorf("%w: stop that router first", err)
		}
		if err != nil {
			return err
		}
		tellDamage(s, damage, l.sorted)
		logs, damaged = logs+1, damaged+len(damage)
	}
	if logs == 0 {
		fmt.Fprintf(s.err, "%s: no router has run there yet\n", cfg.Server.DataDir)
	}
	fmt.Fprintln(s.out, count(damaged, "damaged part"))
	return nil
}

// tellDamage says what was found in a log that is handed on up to an offset.
func tellDamage(s streams, damage []log.Damage, sorted log.Offset) {
	for _, d := range damage {
		fmt.Fprintf(s.out, "%s: bytes %d to %d: %s; kept in %s\n", d.File, d.From, d.To, d.Reason, d.KeptAside)
		if d.LostBefore <= sorted {
			fmt.Fprintln(s.out, "  nothing is lost: the router had handed on all that stood there")
		} else {
			fmt.Fprintf(s.out, "  events that the router had not handed on yet may be lost: of records %d to %d, those in these bytes\n", sorted, d.LostBefore-1)
		}
	}
}

// sortedUpTo returns for each log the offset below which a router handed all its records on to the lanes; its first if that can not be read.
func sortedUpTo(server config.Server) (live, bulk log.Offset) {
	st, err := store.OpenReadOnly(server.DataDir, server.Encryption.Keys)
	if err != nil {
		return 0, router.FirstBulk
	}
	defer st.Close()
	return log.Offset(st.Position()), router.BulkPosition(st)
}
