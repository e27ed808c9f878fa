package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"eventrouter/pkg/config"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/store"
)

const lettersPath = "/api/v1/deadletters"

// lettersPages are the pages of dead letters of the admin API. The commands ask the same pages where no router runs.
type lettersPages struct {
	store  *store.Store
	fields *redact.Fields
	hidden func() redactor
	logger *slog.Logger
	config func() *config.Config

	changes sync.Mutex // held over what must not change between a look and a change: edit, drop of what was exported
}

// lettersRefusal is why there is no answer.
type lettersRefusal struct {
	status  int
	Message string `json:"message"`
	Err     string `json:"error"` // what to do
	Line    int    `json:"line,omitempty"`
}

// Error is what is wrong, without what to do.
func (e *lettersRefusal) Error() string { return e.Message }

func badRequest(format string, args ...any) error {
	return &lettersRefusal{status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// letters are the pages of a running router.
func (srv *service) letters() *lettersPages {
	return &lettersPages{
		store: srv.store, fields: srv.fields, logger: srv.logger,
		hidden: func() redactor { return srv.state.Load().redact }, config: srv.config,
	}
}

// addTo adds the pages to those of an admin API.
func (p *lettersPages) addTo(admin map[string]fasthttp.RequestHandler) {
	for route := range p.routes() {
		admin[route] = fasthttpadaptor.NewFastHTTPHandler(p)
	}
	admin["GET "+lettersPath+"/export"] = p.exportPage
}

// routes are what answers a request: with a value that is shown as JSON.
func (p *lettersPages) routes() map[string]func(context.Context, *http.Request) (any, error) {
	return map[string]func(context.Context, *http.Request) (any, error){
		"GET " + lettersPath:              p.list,
		"GET " + lettersPath + "/summary": p.summary,
		"POST " + lettersPath + "/replay": p.replay,
		"POST " + lettersPath + "/drop":   p.drop,
		"GET " + lettersPath + "/edit":    p.editable,
		"POST " + lettersPath + "/edit":   p.edit,
		"POST " + lettersPath + "/import": p.importLines,
		"GET /api/v1/fallback":            p.fallback,
		"POST /api/v1/replay":             p.replayFile,
	}
}

// changing bounds a change of many dead letters; the request's own context ends with the server.
const changing = 10 * time.Minute

// ServeHTTP answers all pages but the export.
func (p *lettersPages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(context.Background(), changing)
	defer cancel()
	answer, err := any(nil), refuseCrossOrigin(r)
	if err == nil {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		answer, err = p.routes()[method+" "+r.URL.Path](ctx, r)
	}
	status := http.StatusOK
	if err != nil {
		refused := p.refusal(r, err)
		status, answer = refused.status, refused
	}
	data, exact := answer.(json.RawMessage)
	if !exact {
		if data, err = p.hidden().json(answer); err != nil {
			p.logger.Error("BUG: an answer is no JSON", "error", err.Error())
			status, data = http.StatusInternalServerError, []byte(`{"message":"Internal error","error":""}`)
		}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(data) // an error means that the client has gone
}

// refuseCrossOrigin refuses requests that pages of others make: without an admin token this machine may ask, and with it any page that its browser shows.
func refuseCrossOrigin(r *http.Request) error {
	posted := *r
	posted.Method = http.MethodPost // else reading is always let through, and an export is noted
	if err := http.NewCrossOriginProtection().Check(&posted); err != nil {
		return &lettersRefusal{status: http.StatusForbidden, Message: err.Error()}
	}
	return nil
}

// refusal is an error as it is answered.
func (p *lettersPages) refusal(r *http.Request, err error) *lettersRefusal {
	var refused *lettersRefusal
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, context.DeadlineExceeded):
		return &lettersRefusal{status: http.StatusServiceUnavailable, Message: "It takes too long", Err: "ask for fewer dead letters: by destination, reason or time"}
	default:
		p.logger.Error("dead letters", "page", r.Method+" "+r.URL.Path, "error", err.Error())
		return &lettersRefusal{status: http.StatusInternalServerError, Message: "The store failed, the log says why"}
	}
}

// shownReplay says how a dead letter is to be sent again.
type shownReplay struct {
	AsIs      bool `json:"as_is"`
	Overwrite bool `json:"overwrite"`
	All       bool `json:"all"`
}

// shownLetter is a dead letter as people may see it.
type shownLetter struct {
	ID          int64           `json:"id"`
	At          time.Time       `json:"at"`
	Received    time.Time       `json:"received"`
	Destination string          `json:"destination"`
	Hub         string          `json:"hub"`
	Account     string          `json:"account"`
	Lane        string          `json:"lane"`
	Reason      string          `json:"reason"`
	Error       string          `json:"error"`
	Attempts    int             `json:"attempts"`
	APIKey      string          `json:"api_key"`
	EventID     string          `json:"event_id"`
	EventType   string          `json:"event_type"`
	Person      string          `json:"person"`
	Offset      uint64          `json:"log_offset"`
	Index       int             `json:"output,omitempty"`
	Outputs     int             `json:"outputs,omitempty"`
	Replays     int             `json:"replays,omitempty"`
	Replay      *shownReplay    `json:"replay,omitempty"`
	Problem     string          `json:"problem,omitempty"`
	Damaged     string          `json:"damaged,omitempty"`
	Event       json.RawMessage `json:"event,omitempty"`
	Original    json.RawMessage `json:"original,omitempty"`
}

// shown is d without secrets and hidden values.
func (p *lettersPages) shown(d store.DeadLetter, bodies bool) shownLetter {
	d, body, original := p.hidden().shownLetter(d, p.fields)
	l := shownLetter{
		ID: d.ID, At: d.At.UTC(), Received: d.Received.UTC(), Destination: d.Destination, Hub: d.Hub, Account: d.Account, Lane: d.Lane, Reason: d.Reason,
		Error: d.Error, Attempts: d.Attempts, APIKey: d.APIKey, EventID: d.EventID, EventType: d.EventType, Person: d.Person, Offset: d.Offset,
		Index: d.Index, Outputs: d.Outputs, Replays: d.Replays, Problem: d.Problem,
	}
	if d.Replay != nil {
		l.Replay = &shownReplay{d.Replay.AsIs, d.Replay.Overwrite, d.Replay.All}
	}
	if bodies {
		l.Event, l.Original = body, original
	}
	return l
}

// lettersPage is one page of a list.
type lettersPage struct {
	Letters []shownLetter `json:"dead_letters"`
	Next    string        `json:"next,omitempty"` // the cursor of the next page
}

// maxPageBytes bounds the events of a page.
const maxPageBytes = 8 << 20

// list answers GET /api/v1/deadletters.
func (p *lettersPages) list(ctx context.Context, r *http.Request) (any, error) {
	q, limit, err := pageQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	bodies := q.Bodies
	q.Bodies = bodies || p.fields.Active() // what is hidden stands in them
	page := lettersPage{Letters: []shownLetter{}}
	size := 0
	err = eachLetter(ctx, p.store, q, func(d *store.DeadLetter, damaged string) error {
		if len(page.Letters) == limit || size > maxPageBytes {
			page.Next = strconv.FormatInt(page.Letters[len(page.Letters)-1].ID, 10)
			return errEnough
		}
		l := p.shown(*d, bodies)
		if bodies {
			l.Damaged = damaged
		}
		size += len(l.Event) + len(l.Original)
		page.Letters = append(page.Letters, l)
		return nil
	})
	return page, err
}

// readBody reads a JSON object, all of whose members v knows.
func readBody(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return badRequest("The body must be a JSON object: %.200s", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badRequest("The body must be one JSON object")
	}
	return nil
}
