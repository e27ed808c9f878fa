package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

const (
	forgetPath = "/api/v1/forget"
	// forgetPatience is how long a request waits for all to be erased: for calls in flight, and for pages of the database to be looked through. What is
	// not done then is done by the next request.
	forgetPatience = 5 * time.Minute
	maxForgetBody  = 64 << 10
)

type forgetCmd struct {
	configFlag
	routerFlags
	Email       string `help:"The person's e-mail address." placeholder:"EMAIL"`
	UserID      string `name:"user-id" help:"A user id of the person." placeholder:"ID"`
	AnonymousID string `name:"anonymous-id" help:"An anonymous id of the person." placeholder:"ID"`
	APIKey      string `name:"api-key" help:"The ids are those of events of the API key with this id. Default: of any API key." placeholder:"ID"`
	Account     string `help:"With --api-key: the ids are those of this customer's account, not those of others. An e-mail is forgotten in all accounts." placeholder:"ID"`
	DryRun      bool   `name:"dry-run" help:"Erase nothing, only count."`
	JSON        bool   `help:"One JSON object."`
}

// Help is shown by router forget --help.
func (forgetCmd) Help() string {
	return `Erases all that the router holds of a person, by all ids that it knows of them, and returns when nothing of it is on the disk: events that wait are not delivered, and
what became of earlier ones is no longer known. What the person does afterwards is delivered. What was delivered stays where it is: see docs/operating.md.
A router that runs does it while it runs; without one the command does it in the data directory.`
}

// Run implements the command.
func (c *forgetCmd) Run(ctx context.Context, s streams) error {
	q := router.ForgetQuery{Email: c.Email, UserID: c.UserID, AnonymousID: c.AnonymousID, APIKey: c.APIKey, Account: c.Account, DryRun: c.DryRun}
	if q.Email == "" && q.UserID == "" && q.AnonymousID == "" {
		return usageError{errors.New("name the person with --email, --user-id or --anonymous-id (see router forget --help)")}
	}
	if q.Account != "" && (q.APIKey == "" || q.Email != "") {
		return usageError{router.ErrForgetAccount}
	}
	cfg, err := c.load(c.Config)
	if err != nil {
		return err
	}
	var done *router.Forgotten
	err = c.call(ctx, cfg, routerCall{method: http.MethodPost, path: forgetPath, body: q, patience: forgetPatience + time.Minute}, &done)
	if c.absent(err) {
		done, err = forgetStored(ctx, cfg, q)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		data, err := newRedactor(cfg).json(done)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.out, "%s\n", data)
		return err
	}
	return tellForgotten(s.out, done)
}

// forgetStored erases in the data directory of a router that does not run.
func forgetStored(ctx context.Context, cfg *config.Config, q router.ForgetQuery) (_ *router.Forgotten, err error) {
	dir := cfg.Server.DataDir
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no data: name the configuration of the router with --config, or its address with --url", dir)
	}
	logger := slog.New(slog.DiscardHandler)
	srv := &service{logger: logger, fields: redact.New(cfg.Server.Redact)}
	srv.state.Store(&state{cfg: cfg})
	defer func() { err = errors.Join(err, srv.close()) }()
	if srv.store, err = store.Open(dir, storeOptions(cfg.Server, logger)); err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", dir, err)
	}
	if err := srv.openLogs(); err != nil {
		return nil, err
	}
	if err := trimCrash(dir); err != nil {
		return nil, err
	}
	made, _, err := routes(cfg, checkedParts(cfg))
	if err != nil {
		return nil, usageError{err}
	}
	done, err := router.Stored{Store: srv.store, Log: srv.log, BulkLog: srv.bulkLog, Routes: made, Logger: logger}.Forget(ctx, q)
	if err != nil {
		return nil, err
	}
	hideForgotten(done, srv.fields)
	return done, nil
}

// hideForgotten takes e-mails out of an answer where they are hidden.
func hideForgotten(done *router.Forgotten, hidden *redact.Fields) {
	for i := range done.IDs {
		if done.IDs[i].Kind == store.KindEmail {
			done.IDs[i].Value = hidden.Person(done.IDs[i].Value)
		}
	}
}

// tellForgotten writes what was erased.
func tellForgotten(out io.Writer, done *router.Forgotten) error {
	verb := "erased"
	if done.DryRun {
		verb = "would be erased"
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, id := range done.IDs {
		fmt.Fprintf(w, "%s\t%s\t%s\n", id.Kind, cell(id.Value), strings.TrimSuffix(cell(id.APIKey)+" "+cell(id.Account), " "))
	}
	if len(done.Accounts) > 0 {
		fmt.Fprintf(w, "in accounts\t%s\n", cell(strings.Join(done.Accounts, ", ")))
	}
	fmt.Fprintf(w, "\n%s:\n", verb)
	for _, line := range []struct {
		n    int64
		what string
	}{
		{done.Waiting, "entries that waited, which are not delivered"},
		{done.Unsorted, "events that waited to be sorted"},
		{done.Logged, "events of the logs"},
		{done.Delivered, "entries that were delivered, beside others that are not"},
		{done.DeadLetters, "dead letters"},
		{done.Outcomes, "outcomes of earlier events"},
		{done.Identities, "identities"},
		{done.Memories, "memories of contacts"},
		{done.KnownKeys, "known contacts"},
		{done.KV, "entries of $kv"},
		{done.Holds, "holds of writes"},
		{done.Masked, "texts that named the person, and do not any more"},
		{done.RecentEvents, "events of the events cache"},
		{done.KeptAside, "files with damaged data"},
		{done.Pages, "pages of the database, of what stood between rows"},
	} {
		if line.n > 0 {
			fmt.Fprintf(w, "  %d\t%s\n", line.n, line.what)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, x := range done.Exports {
		fmt.Fprintf(out, "export of %s: %s to %s\n", x.At.UTC().Format(time.RFC3339), count(int(x.Letters), "dead letter"), cell(x.Target))
	}
	for _, note := range done.Notes {
		fmt.Fprintln(out, "note:", note)
	}
	return nil
}

// forgetRefused is the body of an answer that not all is erased: Jitsu's envelope.
type forgetRefused struct {
	Message string `json:"message"`
	Error   string `json:"error"` // what to do
}

// forgetPage answers POST /api/v1/forget.
func (srv *service) forgetPage(w http.ResponseWriter, req *http.Request) {
	// Without an admin token this machine may ask, and with it any page that its browser shows.
	if err := http.NewCrossOriginProtection().Check(req); err != nil {
		srv.writeReload(w, http.StatusForbidden, forgetRefused{Message: err.Error()})
		return
	}
	var q router.ForgetQuery
	d := json.NewDecoder(io.LimitReader(req.Body, maxForgetBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		srv.writeReload(w, http.StatusBadRequest, forgetRefused{
			Message: "The body must be a JSON object", Error: "write {\"email\": ...}, with user_id, anonymous_id, api_key, account and dry_run besides, if wanted",
		})
		return
	}
	// The request's context is fasthttp's own; what is begun is finished also when the client goes.
	ctx, cancel := context.WithTimeout(context.Background(), forgetPatience)
	defer cancel()
	done, err := srv.router.Forget(ctx, q)
	var wait *router.ForgetWait
	switch {
	case errors.As(err, &wait):
		w.Header().Set("Retry-After", "30")
		srv.writeReload(w, http.StatusServiceUnavailable, forgetRefused{
			Message: "Not all is erased yet", Error: "the router waits for " + wait.For + ": ask again, that goes on with the rest",
		})
	case errors.Is(err, router.ErrForgetQuery), errors.Is(err, router.ErrForgetAccount):
		srv.writeReload(w, http.StatusBadRequest, forgetRefused{Message: err.Error()})
	case err != nil:
		srv.logger.Error("forget a person", "error", err.Error())
		srv.writeReload(w, http.StatusInternalServerError, forgetRefused{"Not all is erased: " + err.Error(), "put that right and ask again"})
	default:
		if !q.DryRun {
			done.RecentEvents = int64(srv.recent.Forget(done.Names()))
			srv.logger.Info("a person was forgotten", "entries", done.Waiting+done.Unsorted+done.Delivered, "dead_letters", done.DeadLetters,
				"outcomes", done.Outcomes, "took", time.Duration(done.Took*float64(time.Second)).Round(time.Millisecond).String())
		}
		hideForgotten(done, srv.fields)
		srv.writeReload(w, http.StatusOK, done)
	}
}
