package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

const statusPath = "/api/v1/status"

// routerStatus is how a router is.
type routerStatus struct {
	Status        string              `json:"status"`            // ok, failed; stopped: none runs, and this is what its data directory says
	Version       string              `json:"version,omitempty"` // of the one that runs
	Started       *time.Time          `json:"started,omitempty"`
	UptimeSeconds float64             `json:"uptime_seconds,omitempty"`
	DataDir       string              `json:"data_dir"`
	Waiting       int64               `json:"waiting"`        // entries in all lanes
	OldestSeconds float64             `json:"oldest_seconds"` // how long the oldest of them has waited
	Lanes         []router.LaneStatus `json:"lanes"`
	// Accounts sums up destinations that deliver to accounts, of which Lanes are not all; none where one account is asked for.
	Accounts    []router.AccountsStatus `json:"accounts,omitempty"`
	Logs        []logStatus             `json:"logs"`
	StoreBytes  int64                   `json:"store_bytes"`
	DeadLetters []letterCount           `json:"dead_letters"`
	Disk        diskStatus              `json:"disk"`
	Refused     []router.Refusal        `json:"refused"`
	LastErrors  []logLine               `json:"last_errors"` // and warnings, newest first
}

type logStatus struct {
	Name     string  `json:"name"` // live, bulk
	Bytes    int64   `json:"bytes"`
	Unsorted *uint64 `json:"unsorted,omitempty"` // records that are in no lane yet, about; nil: not known
}

type letterCount struct {
	Destination string `json:"destination"`
	Reason      string `json:"reason"`
	Count       int64  `json:"count"`
}

type diskStatus struct {
	FreeBytes    int64 `json:"free_bytes"`
	MinFreeBytes int64 `json:"min_free_bytes"` // with less than that no events are taken
	Full         bool  `json:"full"`
}

// failed says whether log or store have failed: then nothing more is accepted, and the process ends.
func (srv *service) failed() bool {
	select {
	case <-srv.log.Failed():
	case <-srv.bulkLog.Failed():
	case <-srv.store.Failed():
	default:
		return false
	}
	return true
}

// status is how the router is.
// Of account "" it is all; else its lanes are those of one account.
func (srv *service) status(account string) (*routerStatus, error) {
	lanes, accounts := srv.router.Summary(account)
	server := srv.config().Server
	started := srv.began.UTC()
	live, bulk := srv.router.Unsorted()
	kept := srv.store.Stats()
	s := &routerStatus{
		Status: "ok", Version: version(), Started: &started, UptimeSeconds: time.Since(srv.began).Seconds(), DataDir: server.DataDir,
		Lanes: lanes, Accounts: accounts, Refused: srv.router.Refusals(), LastErrors: srv.lastLines.newestFirst(),
		Logs:       []logStatus{{"live", srv.log.Stats().Bytes, &live}, {"bulk", srv.bulkLog.Stats().Bytes, &bulk}},
		StoreBytes: kept.FileBytes + kept.WALBytes,
		Disk:       diskStatus{MinFreeBytes: server.MinFreeBytes, Full: srv.store.Full()},
	}
	if srv.failed() {
		s.Status = "failed"
	}
	return s, s.readStore(srv.store)
}

// readStore fills in what any store tells, and sums the lanes up.
func (s *routerStatus) readStore(st *store.Store) error {
	counts, err := st.DeadLetterCounts()
	if err != nil {
		return err
	}
	s.DeadLetters = []letterCount{}
	for of, n := range counts {
		s.DeadLetters = append(s.DeadLetters, letterCount{of[0], of[1], n})
	}
	slices.SortFunc(s.DeadLetters, func(a, b letterCount) int {
		return strings.Compare(a.Destination+"\x00"+a.Reason, b.Destination+"\x00"+b.Reason)
	})
	if s.Disk.FreeBytes, err = st.Free(); err != nil {
		return err
	}
	for _, l := range s.Lanes {
		s.Waiting += l.Entries
		s.OldestSeconds = max(s.OldestSeconds, l.OldestSeconds)
	}
	for _, a := range s.Accounts {
		s.Waiting += a.Entries - a.ListedEntries
		s.OldestSeconds = max(s.OldestSeconds, a.OldestSeconds)
	}
	return nil
}

// storedStatus is how a router that does not run left its data directory.
func storedStatus(cfg *config.Config, st *store.Store) (*routerStatus, error) {
	kept := st.Stats()
	s := &routerStatus{
		Status: "stopped", DataDir: cfg.Server.DataDir, Refused: []router.Refusal{}, LastErrors: []logLine{},
		StoreBytes: kept.FileBytes + kept.WALBytes, Disk: diskStatus{MinFreeBytes: cfg.Server.MinFreeBytes},
		Lanes: router.StoredStatus(st, func(destination string) bool {
			return slices.ContainsFunc(cfg.Destinations, func(d config.Destination) bool { return d.Name == destination && !d.Staged })
		}),
		Logs: []logStatus{{Name: "live", Bytes: dirBytes(logDir(cfg.Server.DataDir))}, {Name: "bulk", Bytes: dirBytes(bulkLogDir(cfg.Server.DataDir))}},
	}
	err := s.readStore(st)
	s.Disk.Full = s.Disk.FreeBytes < s.Disk.MinFreeBytes
	return s, err
}

// dirBytes is the size of the log's files in a directory.
func dirBytes(dir string) (n int64) {
	files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, f := range files {
		if fi, err := os.Stat(f); err == nil {
			n += fi.Size()
		}
	}
	return n
}

// statusPage answers GET /api/v1/status.
func (srv *service) statusPage(ctx *fasthttp.RequestCtx) {
	s, err := srv.status(string(ctx.QueryArgs().Peek("account")))
	if err != nil {
		srv.logger.Error("status", "error", err.Error())
		ctx.SetStatusCode(fasthttp.StatusInternalServerError)
		writeMessage(ctx, "The store can not be read, the log says why")
		return
	}
	srv.answer(ctx, s)
}

type statusCmd struct {
	configFlag
	routerFlags
	JSON bool `help:"One JSON object."`
}

// Help is shown by router status --help.
func (statusCmd) Help() string {
	return `Tells how the router is: lanes with their states and what waits in them, logs, store, disk, dead letters, which API keys are refused, and the last errors.
Without a running router it tells what the data directory holds.`
}

// Run implements the command.
func (c *statusCmd) Run(ctx context.Context, s streams) error {
	status, err := routerStatusOf(ctx, &c.routerFlags, c.Config, "")
	if err != nil {
		return err
	}
	if c.JSON {
		data, err := json.Marshal(status)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.out, "%s\n", data)
		return err
	}
	return writeStatus(s.out, status)
}

// routerStatusOf asks the router that runs how it is, or its data directory where none does. What it returns has no secrets.
// account "" is all; else the lanes of one account.
func routerStatusOf(ctx context.Context, f *routerFlags, path, account string) (*routerStatus, error) {
	cfg, err := f.load(path)
	if err != nil {
		return nil, err
	}
	status := &routerStatus{}
	page := statusPath
	if account != "" {
		page += "?account=" + url.QueryEscape(account)
	}
	err = f.call(ctx, cfg, routerCall{path: page}, status)
	if err != nil && f.absent(err) {
		var st *store.Store
		if st, err = f.stored(cfg); err != nil {
			return nil, err
		}
		defer st.Close()
		if status, err = storedStatus(cfg, st); err == nil && account != "" {
			status.Lanes = slices.DeleteFunc(status.Lanes, func(l router.LaneStatus) bool { return l.Name.Account != account })
		}
	}
	if err != nil {
		return nil, err
	}
	data, err := newRedactor(cfg).json(status)
	if err != nil {
		return nil, err
	}
	clean := &routerStatus{}
	return clean, json.Unmarshal(data, clean)
}
