package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/enrich"
	"eventrouter/pkg/eventscache"
	"eventrouter/pkg/ingest"
	"eventrouter/pkg/log"
	"eventrouter/pkg/proxy"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

type serveCmd struct {
	configFlag
}

// Help is shown by router serve --help.
func (serveCmd) Help() string {
	return `Listens on server.port (8001) and keeps its data in server.data_dir (./data). Stops on SIGTERM or Ctrl-C: open requests and calls get
server.grace (15s) to finish, everything else stays on disk and goes on at the next start.`
}

// Run implements the command.
func (c *serveCmd) Run(ctx context.Context, s streams) error {
	hangups := make(chan os.Signal, 1) // one that waits stands for all
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	elsewhere := config.NewElsewhere(nil)
	l := loader{path: c.Config, fresh: fetched(elsewhere), good: kept, insist: true}
	first, err := l.load(ctx)
	switch {
	case ctx.Err() != nil:
		return nil // told to stop while it waited for an address
	case err != nil:
		return withoutFile(err)
	}
	cfg := first.cfg
	var level slog.LevelVar
	level.Set(cfg.Server.LogLevel)
	logger := newLogger(cfg.Server, &level, s.err)
	for _, w := range cfg.Warnings {
		logger.Warn(w.String())
	}
	srv, err := newService(cfg, logger, nil)
	if err != nil {
		return err
	}
	srv.reloadFrom(first, elsewhere, &level, hangups)
	ln, err := listen(net.JoinHostPort(cfg.Server.Host, strconv.Itoa(cfg.Server.Port)), "server.port")
	if err != nil {
		return errors.Join(err, srv.close())
	}
	bound, unbound := context.WithCancel(ctx)
	defer unbound()
	go boundMemory(bound)
	return srv.run(ctx, ln)
}

// listen listens at addr, which setting chose.
func listen(addr, setting string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	var wrong *net.AddrError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another program: stop that, or choose another address with %s", addr, setting)
	case errors.As(err, &wrong):
		return nil, usageError{fmt.Errorf("%s: %w", setting, err)}
	case err != nil:
		return nil, fmt.Errorf("%w (chosen with %s)", err, setting)
	}
	return ln, nil
}

// service is one router with all its parts.
type service struct {
	state      atomic.Pointer[state]
	parts      parts     // to make routes with
	reloader   *reloader // nil: the configuration is no file
	began      time.Time
	logger     *slog.Logger
	registry   *prometheus.Registry
	log        *log.Log
	bulkLog    *log.Log
	store      *store.Store
	router     *router.Router
	encryption *encryption
	connected  *connections.Service
	proxy      *proxy.Proxy
	geo        *enrich.Geo // nil: there are no databases
	enricher   *enrich.Enricher
	ingest     *ingest.Server
	recent     *eventscache.Cache
	fields     *redact.Fields // what people are not shown of events

	lastLines *lastLines

	certificate *ingest.Certificate // nil: HTTP
}

// letterBounds are those of dead letters that the configuration says.
func letterBounds(s config.Server) router.DeadLetterBounds {
	return router.DeadLetterBounds{MaxBytes: s.DeadLettersMaxBytes, MaxAge: s.DeadLettersMaxAge}
}

// newService opens the data directory and puts the parts together. transport is for the destinations' calls; nil: the network.
func newService(cfg *config.Config, logger *slog.Logger, transport http.RoundTripper) (srv *service, err error) {
	fields := redact.New(cfg.Server.Redact)
	last := &lastLines{}
	logger = slog.New(fields.Handler(last.handler(logger.Handler()))) // what is hidden is hidden from both
	srv = &service{began: time.Now(), lastLines: last, logger: logger, registry: prometheus.NewRegistry(), fields: fields}
	srv.state.Store(&state{cfg: cfg})
	defer func() {
		if err != nil {
			srv.close()
		}
	}()
	srv.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	server := cfg.Server
	if err := srv.openData(server); err != nil {
		return srv, err
	}
	if path := cfg.Geo.MaxMindPath; path != "" {
		if srv.geo, err = enrich.OpenGeo(path, logger); err != nil {
			return srv, usageError{fmt.Errorf("geo.maxmind_path: %w", err)}
		}
	}
	srv.enricher = newEnricher(cfg, srv.geo)
	if srv.certificate, err = certificateOf(cfg, ingest.CertificateOptions{Registerer: srv.registry, Logger: logger}); err != nil {
		return srv, err
	}
	if srv.connected, err = newConnections(srv, cfg, transport); err != nil {
		return srv, err
	}
	shared := &destinations.Shared{}
	srv.parts = parts{
		logger: logger, metrics: destinations.NewMetrics(srv.registry), cache: storeCache{srv.store}, shared: shared, transport: transport,
		enricher: srv.enricher, connections: srv.connected,
	}
	made, _, err := routes(cfg, srv.parts)
	if err != nil {
		return srv, usageError{err}
	}
	verifiers, problems := endUsers(cfg.Apps, endUserOptions(logger, transport), nil)
	if err := problems.Err(); err != nil {
		return srv, usageError{err}
	}
	if srv.proxy, err = newProxy(srv, cfg, verifiers, transport); err != nil {
		return srv, usageError{err}
	}
	srv.state.Store(&state{cfg: cfg, routes: made, verifiers: verifiers, redact: newRedactor(cfg)})
	srv.recent = eventscache.New(eventscache.Options{
		Capacity: server.EventsCacheCapacity, Interval: server.EventsCacheInterval, Redact: fields, Members: eventsCacheMembers(cfg, made),
	})
	var sorts router.Watcher
	var takesIn ingest.Watcher
	if server.EventsCacheCapacity > 0 {
		sorts, takesIn = srv.recent, srv.recent
	}
	srv.router, err = router.New(router.Options{
		Log: srv.log, BulkLog: srv.bulkLog, Store: srv.store, Routes: made, Enricher: srv.enricher, Registerer: srv.registry, Logger: logger, Grace: server.Grace,
		MarkFile: filepath.Join(server.DataDir, "sorter.mark"), Crash: crashReport(server.DataDir, logger), Watcher: sorts, Redact: fields, Letters: letterBounds(server),
	})
	if err != nil {
		return srv, err
	}
	srv.connected.Subscribe(func(c connections.Change) { srv.router.Connected(c.App, c.Account) })
	runs := newDryRuns(srv)
	srv.ingest, err = ingest.New(ingest.Options{
		Server: server, APIKeys: cfg.APIKeys, Destinations: cfg.Destinations, Log: srv.log, BulkLog: srv.bulkLog,
		Refused: srv.router.Refused, Ready: srv.ready,
		Metrics: fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(srv.registry, promhttp.HandlerOpts{})),
		Apps:    ingestApps(cfg, verifiers),
		Admin:   srv.admin(runs, quiet(shared, transport)),
		DryRun:  runs.page,
		Place:   srv.geo.Country, Mounts: srv.mounts(), Certificate: srv.certificate, Watcher: takesIn, Registerer: srv.registry, Logger: logger,
	})
	return srv, err
}

// openData opens what is in the data directory.
func (srv *service) openData(server config.Server) (err error) {
	tightenModes(server.DataDir, srv.logger)
	srv.store, err = store.Open(server.DataDir, storeOptions(server, srv.logger))
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w: stop that router, or give this one a server.data_dir of its own", err)
	}
	if err != nil {
		return fmt.Errorf("open the store in %s: %w", server.DataDir, err)
	}
	if err := srv.openLogs(); err != nil {
		return err
	}
	srv.encryption = newEncryption(srv)
	srv.registry.MustRegister(srv.encryption)
	return nil
}

// admin are the routes of the admin API. Destinations are tested with parts.
func (srv *service) admin(runs *dryRuns, parts parts) map[string]fasthttp.RequestHandler {
	evaluates := &evaluatePage{runs: runs, hidden: func() redactor { return srv.state.Load().redact }}
	admin := map[string]fasthttp.RequestHandler{
		"GET " + explainPath:             srv.explainPage,
		"GET " + statusPath:              srv.statusPage,
		"POST " + lanesPath + "/move":    fasthttpadaptor.NewFastHTTPHandler(http.HandlerFunc(srv.lanesPage)),
		"POST " + lanesPath + "/drop":    fasthttpadaptor.NewFastHTTPHandler(http.HandlerFunc(srv.lanesPage)),
		"GET /api/v1/events/cache":       srv.eventsCachePage,
		"POST " + reloadPath:             fasthttpadaptor.NewFastHTTPHandler(http.HandlerFunc(srv.reloadPage)),
		"POST " + forgetPath:             fasthttpadaptor.NewFastHTTPHandler(http.HandlerFunc(srv.forgetPage)),
		"POST " + evaluatePath:           fasthttpadaptor.NewFastHTTPHandler(evaluates),
		"POST /api/v1/destinations/test": fasthttpadaptor.NewFastHTTPHandler(&destinationTest{srv.config, parts}),
	}
	srv.letters().addTo(admin)
	return admin
}

// storeOptions are what a configuration says of the store.
func storeOptions(server config.Server, logger *slog.Logger) store.Options {
	return store.Options{
		MinFreeBytes: server.MinFreeBytes, SeenWindow: server.DedupeWindow, SeenMax: server.DedupeMaxIDs,
		OutcomeBytes: server.OutcomesMaxBytes, OutcomeAge: server.OutcomesMaxAge,
		IdentityAge: server.IdentitiesMaxAge, IdentityMax: server.IdentitiesMaxEntries,
		KVMaxEntries: server.KVMaxEntries, KVMaxBytes: server.KVMaxBytes, Keys: server.Encryption.Keys, Logger: logger,
	}
}

// run serves until ctx ends, then stops all parts, ingest and router at the same time: what was accepted is in the log, and what is not delivered
// stays on disk. It closes ln and the data directory.
func (srv *service) run(ctx context.Context, ln net.Listener) error {
	cfg := srv.config()
	srv.logger.Info("router is ready", "address", ln.Addr().String(), "version", version(), "data_dir", cfg.Server.DataDir,
		"destinations", len(cfg.Destinations))
	told := context.AfterFunc(ctx, func() {
		srv.logger.Info("router is stopping: a second signal ends it at once", "grace", cfg.Server.Grace.String())
	})
	defer told()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.ingest.Run(ctx, ln) })
	g.Go(func() error { return srv.router.Run(ctx) })
	g.Go(func() error { return srv.store.CheckNowAndThen(ctx) })
	g.Go(func() error { return srv.encryption.run(ctx) })
	g.Go(func() error { return srv.connected.Run(ctx) })
	g.Go(func() error { return srv.store.ExpireIdentitiesNowAndThen(ctx) })
	if srv.certificate != nil {
		g.Go(func() error { return srv.certificate.Run(ctx) })
	}
	if srv.reloader != nil {
		g.Go(func() error { return srv.reloader.run(ctx) })
	}
	if srv.geo != nil {
		g.Go(func() error { return srv.geo.Run(ctx) })
	}
	if srv.config().Server.EnrichUserAgents {
		g.Go(func() error { srv.enricher.Warm(); return nil })
	}
	err := g.Wait()
	if closeErr := srv.close(); err == nil {
		err = closeErr
	}
	if err == nil {
		srv.logger.Info("router has stopped; what is not delivered goes on at the next start")
	}
	return err
}

func (srv *service) close() error {
	var errs []error
	for _, l := range []*log.Log{srv.log, srv.bulkLog} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if srv.store != nil {
		errs = append(errs, srv.store.Close())
	}
	return errors.Join(errs...)
}

// ready is the detail of /readyz: the lanes and their states. A remote that refuses does not make the router unready, for it goes on
// accepting events; a log that takes none does.
func (srv *service) ready() (detail []byte, ok bool) {
	ok = !srv.failed()
	lanes, accounts := srv.router.Summary("")
	status := struct {
		Status   string                  `json:"status"`
		Lanes    []router.LaneStatus     `json:"lanes"`
		Accounts []router.AccountsStatus `json:"accounts,omitempty"`
		Check    *storeCheck             `json:"store_check,omitempty"`
	}{Status: "ok", Lanes: lanes, Accounts: accounts}
	if !ok {
		status.Status = "failed"
	}
	if last := srv.store.LastCheck(); !last.At.IsZero() {
		status.Check = &storeCheck{last.At.UTC(), last.Took.Seconds(), append([]string{}, last.Problems...)}
	}
	detail, err := json.Marshal(status)
	if err != nil {
		return []byte(`{"status":"failed"}`), false
	}
	return detail, ok
}

// storeCheck is what the last check of the store's database has found.
type storeCheck struct {
	At       time.Time `json:"at"`
	Seconds  float64   `json:"seconds"`
	Problems []string  `json:"problems"`
}

// openLogs opens the two logs. Bulk events stop before the disk is so full that live ones would have to.
func (srv *service) openLogs() (err error) {
	server := srv.config().Server
	opts := log.Options{MaxBytes: server.MaxLogBytes, MinFreeBytes: server.MinFreeBytes, Position: log.Offset(srv.store.Position()), Keys: server.Encryption.Keys, Logger: srv.logger}
	if srv.log, err = log.Open(logDir(server.DataDir), opts); err != nil {
		return fmt.Errorf("open the log in %s: %w", logDir(server.DataDir), err)
	}
	opts.MinFreeBytes *= 2
	opts.Position = router.BulkPosition(srv.store)
	if srv.bulkLog, err = log.Open(bulkLogDir(server.DataDir), opts); err != nil {
		return fmt.Errorf("open the log in %s: %w", bulkLogDir(server.DataDir), err)
	}
	return nil
}

// logDir is where a data directory holds the log of live events.
func logDir(dataDir string) string { return filepath.Join(dataDir, "log", "live") }

// bulkLogDir is where it holds the log of bulk events.
func bulkLogDir(dataDir string) string { return filepath.Join(dataDir, "log", "bulk") }

// newLogger writes text to a terminal and JSON to anything else, unless the configuration says otherwise.
func newLogger(server config.Server, level slog.Leveler, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	f, isFile := w.(*os.File)
	terminal := isFile && term.IsTerminal(int(f.Fd()))
	var handler slog.Handler = slog.NewJSONHandler(w, opts)
	if server.LogFormat == "text" || server.LogFormat != "json" && terminal {
		handler = slog.NewTextHandler(w, opts)
	}
	logger := slog.New(handler)
	if server.Name != "" && !strings.HasPrefix(server.Name, "unnamed") {
		logger = logger.With("server", server.Name)
	}
	return logger
}

func discardMetrics() *destinations.Metrics { return destinations.NewMetrics(prometheus.NewRegistry()) }
