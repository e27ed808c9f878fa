package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

type explainCmd struct {
	configFlag
	EventID    string `arg:"" optional:"" name:"event-id" help:"The event's id. Not with --person."`
	Person     string `help:"The last events of this person, by e-mail." placeholder:"EMAIL"`
	APIKey     string `name:"api-key" help:"Only events of the API key with this id." placeholder:"ID"`
	Limit      int    `help:"At most so many outcomes, and of what waits in each lane. Default: 20 of a person, 100 of an event."`
	URL        string `name:"url" help:"Ask the router at this address. Default: the one of the configuration, or its data directory if none runs." placeholder:"URL"`
	AdminToken string `env:"ADMIN_TOKEN" help:"The admin token of that router. Default: server.admin_token of the configuration." placeholder:"TOKEN"`
	JSON       bool   `help:"One JSON object."`
}

// Help is shown by router explain --help.
func (explainCmd) Help() string {
	return `Tells for each destination what became of an event: delivered with what was written and left out, filtered, skipped, waiting where and why, or a dead letter.
With a running router it says what is in its memory too; without one it reads the data directory.`
}

const explainPath = "/api/v1/events/explain"

// Run implements the command.
func (c *explainCmd) Run(ctx context.Context, s streams) error {
	q := router.ExplainQuery{EventID: c.EventID, Person: c.Person, APIKey: c.APIKey, Limit: c.Limit}
	if q.Limit < 0 {
		return usageError{errors.New("--limit must not be negative")}
	}
	if (q.EventID == "") == (q.Person == "") {
		return usageError{errors.New("name either an event id or --person (see router explain --help)")}
	}
	if c.URL != "" {
		if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil { // errors repeat it
			return usageError{errors.New("--url: write the router's address, such as https://router.example.com; the token goes into --admin-token")}
		}
	}
	cfg, err := load(c.Config)
	if c.URL != "" && errors.Is(err, fs.ErrNotExist) {
		cfg, err = &config.Config{}, nil // it says nothing that is needed
	}
	if err != nil {
		return err
	}
	token := c.AdminToken
	if token == "" {
		token = string(cfg.Server.AdminToken)
	}
	x, err := c.ask(ctx, cfg, token, q)
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
func (c *explainCmd) ask(ctx context.Context, cfg *config.Config, token string, q router.ExplainQuery) (*router.Explanation, error) {
	base := strings.TrimRight(c.URL, "/")
	if base == "" {
		base = ownAddress(cfg.Server)
	}
	if base != "" {
		transport := &http.Transport{DisableKeepAlives: true} // no proxy: the token is for the router
		if c.URL == "" {
			var err error
			if transport, err = ownTransport(cfg.Server.TLS); err != nil {
				return nil, fmt.Errorf("read the certificate of the router: %w; or name its address with --url", err)
			}
		}
		x, err := fetchExplanation(ctx, transport, explainAt{base, token}, q)
		if c.URL != "" || !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, errNoRouter) {
			return x, err
		}
	}
	st, err := store.OpenReadOnly(cfg.Server.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no router runs at %s, and %s holds no data: name the configuration of the router with --config, or its address with --url", base, cfg.Server.DataDir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", cfg.Server.DataDir, err)
	}
	defer st.Close()
	return router.ExplainStored(ctx, st, q)
}

// ownAddress is where the router of a configuration can be reached from this machine; "" when it takes any free port.
func ownAddress(s config.Server) string {
	if s.Port == 0 {
		return ""
	}
	host := s.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http://"
	if s.TLS.Enabled() {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, strconv.Itoa(s.Port))
}

// errNoRouter is for something else that listens where the router was thought to be.
var errNoRouter = errors.New("what answers there is no router, or an older one")

// maxExplanation bounds an answer.
const maxExplanation = 64 << 20

// explainAt is the router to ask.
type explainAt struct{ base, token string }

// fetchExplanation asks a router.
func fetchExplanation(ctx context.Context, transport *http.Transport, at explainAt, q router.ExplainQuery) (*router.Explanation, error) {
	base, token := at.base, at.token
	values := url.Values{}
	if q.Limit > 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	for name, value := range map[string]string{"event_id": q.EventID, "person": q.Person, "api_key": q.APIKey} {
		if value != "" {
			values.Set(name, value)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+explainPath+"?"+values.Encode(), nil)
	if err != nil {
		return nil, usageError{fmt.Errorf("--url: %w", err)}
	}
	if token != "" {
		req.Header.Set("X-Admin-Token", token)
	}
	client := http.Client{
		Timeout:       time.Minute,
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // nor for others
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the router: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxExplanation))
	if err != nil {
		return nil, fmt.Errorf("ask the router at %s: %w", base, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, refusedQuestion(base, res.StatusCode, body)
	}
	var x router.Explanation
	if err := json.Unmarshal(body, &x); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errNoRouter, base, err)
	}
	return &x, nil
}

func refusedQuestion(base string, status int, body []byte) error {
	var answer struct{ Message, Error string }
	_ = json.Unmarshal(body, &answer)
	switch {
	case status == http.StatusUnauthorized:
		return fmt.Errorf("the router at %s does not accept the admin token: give the one of its server.admin_token with --admin-token, or in ADMIN_TOKEN", base)
	case answer.Message != "":
		return fmt.Errorf("the router at %s answers %d: %s", base, status, line(strings.TrimSpace(answer.Message+" "+answer.Error)))
	default:
		return fmt.Errorf("%w: %s answers %d", errNoRouter, base, status)
	}
}

// explainPage answers GET /api/v1/events/explain.
func (srv *service) explainPage(ctx *fasthttp.RequestCtx) {
	args := ctx.QueryArgs()
	q := router.ExplainQuery{EventID: string(args.Peek("event_id")), Person: string(args.Peek("person")), APIKey: string(args.Peek("api_key"))}
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
