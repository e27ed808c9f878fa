package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/router"
)

type explainCmd struct {
	configFlag
	routerFlags
	EventID string `arg:"" optional:"" name:"event-id" help:"The event's id. Not with --person."`
	Person  string `help:"The last events of this person, by e-mail." placeholder:"EMAIL"`
	APIKey  string `name:"api-key" help:"Only events of the API key with this id." placeholder:"ID"`
	Account string `help:"Only what became of them in this customer's account." placeholder:"ID"`
	Limit   int    `help:"At most so many outcomes, and of what waits in each lane. Default: 20 of a person, 100 of an event."`
	JSON    bool   `help:"One JSON object."`
}

// Help is shown by router explain --help.
func (explainCmd) Help() string {
	return `Tells for each destination what became of an event: delivered with what was written and left out, filtered, skipped, waiting where and why, or a dead letter.
With a running router it says what is in its memory too; without one it reads the data directory.`
}

const explainPath = "/api/v1/events/explain"

// Run implements the command.
func (c *explainCmd) Run(ctx context.Context, s streams) error {
	q := router.ExplainQuery{EventID: c.EventID, Person: c.Person, APIKey: c.APIKey, Account: c.Account, Limit: c.Limit}
	if q.Limit < 0 {
		return usageError{errors.New("--limit must not be negative")}
	}
	if (q.EventID == "") == (q.Person == "") {
		return usageError{errors.New("name either an event id or --person (see router explain --help)")}
	}
	cfg, err := c.routerFlags.load(c.Config)
	if err != nil {
		return err
	}
	x, err := c.ask(ctx, cfg, q)
	if err != nil {
		return err
	}
	hidePersons(x, redact.New(cfg.Server.Redact))
	data, err := newRedactor(cfg).json(x)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = fmt.Fprintf(s.out, "%s\n", data)
		return err
	}
	if err := json.Unmarshal(data, x); err != nil {
		return err
	}
	return writeExplanation(s.out, x)
}

// ask asks the router that runs, and the store where none does.
func (c *explainCmd) ask(ctx context.Context, cfg *config.Config, q router.ExplainQuery) (*router.Explanation, error) {
	values := url.Values{}
	if q.Limit > 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	for name, value := range map[string]string{"event_id": q.EventID, "person": q.Person, "api_key": q.APIKey, "account": q.Account} {
		if value != "" {
			values.Set(name, value)
		}
	}
	var x router.Explanation
	err := c.call(ctx, cfg, routerCall{path: explainPath + "?" + values.Encode()}, &x)
	if err == nil || !c.absent(err) {
		return &x, err
	}
	st, err := c.stored(cfg)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	return router.ExplainStored(ctx, st, q)
}

// explainPage answers GET /api/v1/events/explain.
func (srv *service) explainPage(ctx *fasthttp.RequestCtx) {
	args := ctx.QueryArgs()
	q := router.ExplainQuery{EventID: string(args.Peek("event_id")), Person: string(args.Peek("person")), APIKey: string(args.Peek("api_key")), Account: string(args.Peek("account"))}
	if q.EventID == "" && strings.TrimSpace(q.Person) == "" {
		refuseQuery(ctx, "event_id or person is required parameter")
		return
	}
	var ok bool
	if q.Limit, ok = limitOf(ctx); !ok {
		return
	}
	bounded, cancel := context.WithTimeout(context.Background(), 30*time.Second) // the request's own context ends with the server
	defer cancel()
	x, err := srv.router.Explain(bounded, q)
	if err != nil {
		srv.logger.Error("explain", "error", err.Error())
		ctx.SetStatusCode(fasthttp.StatusInternalServerError)
		writeMessage(ctx, "The store can not be read, the log says why")
		return
	}
	hidePersons(x, srv.fields)
	srv.answer(ctx, x)
}

// limitOf reads the parameter limit, at most maxLimit; 0 when there is none. It answers when that is no number.
func limitOf(ctx *fasthttp.RequestCtx) (limit int, ok bool) {
	text := string(ctx.QueryArgs().Peek("limit"))
	if text == "" {
		return 0, true
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 0 {
		refuseQuery(ctx, "limit must be a number")
		return 0, false
	}
	return min(limit, maxLimit), true
}

const maxLimit = 10_000

// answer writes v as JSON, without secrets.
func (srv *service) answer(ctx *fasthttp.RequestCtx, v any) {
	data, err := srv.state.Load().redact.json(v)
	if err != nil {
		srv.logger.Error("BUG: an answer is no JSON", "error", err.Error())
		ctx.SetStatusCode(fasthttp.StatusInternalServerError)
		return
	}
	ctx.SetContentType("application/json; charset=utf-8")
	ctx.SetBody(data)
}

// refuseQuery answers in Jitsu's envelope.
func refuseQuery(ctx *fasthttp.RequestCtx, message string) {
	ctx.SetStatusCode(fasthttp.StatusBadRequest)
	writeMessage(ctx, message)
}

func writeMessage(ctx *fasthttp.RequestCtx, message string) {
	ctx.SetContentType("application/json; charset=utf-8")
	data, _ := json.Marshal(struct {
		Message string `json:"message"`
		Error   string `json:"error"`
	}{Message: message}) // two texts
	ctx.SetBody(data)
}
