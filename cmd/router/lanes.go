package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"eventrouter/pkg/router"
)

const lanesPath = "/api/v1/lanes"

type lanesCmd struct {
	List lanesListCmd `cmd:"" help:"List lanes, with their states and what waits in them."`
	Move lanesMoveCmd `cmd:"" help:"Move what waits in parked lanes to another destination, or to the hub that theirs delivers to now."`
	Drop lanesDropCmd `cmd:"" help:"Make dead letters of what waits in parked lanes."`
}

type lanesListCmd struct {
	configFlag
	routerFlags
	Account string `help:"Only lanes of this connected account, all of them. Without it those of accounts that do not flow, and those with most waiting, 100 of a destination." placeholder:"ID"`
	JSON    bool   `help:"One JSON object per line."`
}

// Run implements the command.
func (c *lanesListCmd) Run(ctx context.Context, s streams) error {
	status, err := routerStatusOf(ctx, &c.routerFlags, c.Config, c.Account)
	if err != nil {
		return err
	}
	if c.JSON {
		for _, l := range status.Lanes {
			data, err := json.Marshal(l)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "%s\n", data)
		}
		return nil
	}
	if len(status.Lanes) == 0 {
		fmt.Fprintln(s.out, "no lanes")
		return nil
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	writeLanes(w, status.Lanes)
	if err := w.Flush(); err != nil {
		return err
	}
	for _, a := range status.Accounts {
		if left := a.Entries - a.ListedEntries; left > 0 {
			fmt.Fprintf(s.out, "and of other accounts of %s: %d entries; --account shows all lanes of one\n", cell(a.Destination), left)
		}
	}
	return nil
}

// laneFlags name parked lanes.
type laneFlags struct {
	configFlag
	routerFlags
	Destination string `arg:"" help:"The name that their destination had, or has."`
	Hub         string `help:"Only those of this remote account." placeholder:"ID"`
	Account     string `help:"Only those of this connected account."`
	Lane        string `help:"Only this kind, such as contacts or events, with imports."`
}

type lanesMoveCmd struct {
	laneFlags
	To string `required:"" help:"The destination that gets what waits." placeholder:"DESTINATION"`
}

// Help is shown by router lanes move --help.
func (lanesMoveCmd) Help() string {
	return `What waits is delivered by the other destination as it is, without its transform and filters, as replayed dead letters are: in order of receipt, and older values do not replace what a
later event wrote. Interrupted, it goes on when it is asked for again; nothing is sent twice.`
}

// Run implements the command.
func (c *lanesMoveCmd) Run(ctx context.Context, s streams) error {
	n, err := c.unpark(ctx, s, "/move", c.To)
	if err == nil {
		fmt.Fprintf(s.out, "entries on their way to %s: %d\n", c.To, n)
	}
	return err
}

type lanesDropCmd struct {
	laneFlags
	Yes bool `help:"Do not ask. Needed where nobody can be asked."`
}

// Help is shown by router lanes drop --help.
func (lanesDropCmd) Help() string {
	return `The dead letters have the reason parked, and hold everything: router deadletters shows, exports, replays or drops them.`
}

// Run implements the command.
func (c *lanesDropCmd) Run(ctx context.Context, s streams) error {
	if !c.Yes {
		if err := confirmed(s, fmt.Sprintf("Make dead letters of what waits in parked lanes of %s? [y/N] ", cell(c.Destination))); err != nil {
			return err
		}
	}
	n, err := c.unpark(ctx, s, "/drop", "")
	if err == nil {
		fmt.Fprintf(s.out, "entries dropped to dead letters: %d\n", n)
	}
	return err
}

// unpark asks until nothing is left.
func (c *laneFlags) unpark(ctx context.Context, s streams, what, to string) (n int64, err error) {
	cfg, err := c.load(c.Config)
	if err != nil {
		return 0, err
	}
	q := router.ParkedQuery{Destination: c.Destination, Hub: c.Hub, Account: c.Account, Lane: c.Lane, To: to}
	for {
		var done router.Unparked
		err := c.call(ctx, cfg, routerCall{method: http.MethodPost, path: lanesPath + what, body: q}, &done)
		switch {
		case err != nil && c.absent(err):
			return n, fmt.Errorf("no router runs: start it, for it knows which lanes are parked")
		case err != nil:
			return n, err
		}
		n += done.Entries
		if done.Left == 0 {
			return n, nil
		}
		fmt.Fprintf(s.err, "%d done, %d left\n", n, done.Left)
	}
}

// unparking bounds one request: the client asks again for the rest.
const unparking = 20 * time.Second

// lanesPage answers POST /api/v1/lanes/move and /api/v1/lanes/drop.
func (srv *service) lanesPage(w http.ResponseWriter, r *http.Request) {
	answer := func(status int, v any) {
		data, err := srv.state.Load().redact.json(v)
		if err != nil {
			status, data = http.StatusInternalServerError, []byte(`{"message":"Internal error","error":""}`)
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write(data) // an error means that the client has gone
	}
	refuse := func(status int, message, todo string) { answer(status, lettersRefusal{Message: message, Err: todo}) }
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		refuse(http.StatusForbidden, err.Error(), "")
		return
	}
	var q router.ParkedQuery
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	move := r.URL.Path == lanesPath+"/move"
	switch err := dec.Decode(&q); {
	case err != nil:
		refuse(http.StatusBadRequest, "The body is no such JSON object: "+err.Error(), "write destination, and hub, account, lane to choose some of its lanes")
		return
	case q.Destination == "":
		refuse(http.StatusBadRequest, "destination is missing", "name the destination whose parked lanes are meant")
		return
	case move != (q.To != ""):
		refuse(http.StatusBadRequest, "to is for move, and needed there", "name the destination that gets the entries")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), unparking) // the request's own context ends with the server
	defer cancel()
	done, err := srv.router.Unpark(ctx, q)
	var full *router.LettersFullError
	switch {
	case errors.Is(err, router.ErrNotParked):
		refuse(http.StatusNotFound, "No such lane is parked with entries", "GET "+statusPath+" lists lanes and their states")
	case errors.Is(err, router.ErrWrongTarget):
		refuse(http.StatusBadRequest, err.Error(), "name a destination of the configuration that has such lanes")
	case errors.As(err, &full):
		refuse(http.StatusConflict, full.Reason, "what was done stays done; ask again when there is room")
	case err != nil:
		srv.logger.Error("lanes", "page", r.URL.Path, "error", err.Error())
		refuse(http.StatusInternalServerError, "The store failed, the log says why", "")
	default:
		srv.logger.Info("entries of parked lanes were "+map[bool]string{true: "moved", false: "dropped to dead letters"}[move], "destination", q.Destination, "hub", q.Hub,
			"lane", q.Lane, "to", q.To, "entries", done.Entries, "left", done.Left)
		answer(http.StatusOK, done)
	}
}
