package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
)

// statusGone is 499, which HTTP has no name for.
const statusGone = 499

// writeTime is how long a caller may take nothing of an answer.
const writeTime = 30 * time.Second

// maxRefusalBytes is what is kept of an answer with 429 to learn which quota it is about; it is what the caller gets of it, too.
const maxRefusalBytes = 64 << 10

// Handle forwards a request that Admit has admitted, and whose body was read, and sends the answer on as it comes.
func (p *Proxy) Handle(ctx *fasthttp.RequestCtx) {
	c, ok := ctx.UserValue(callKey{}).(*call)
	if !ok {
		panic("BUG: a call that was not admitted")
	}
	if c.size = int64(len(ctx.Request.Body())); !p.enter(c) {
		p.refuse(ctx, c, busy())
		return
	}
	callCtx, cancel := context.WithTimeout(context.Background(), c.app.Config.Proxy.Timeout)
	c.unwanted.Store(c.reads())
	unwatch := watch(ctx.Conn(), func() { c.callerGone(cancel) })
	end := func() { unwatch(); cancel(); p.leave(c) }
	res, r := p.forward(callCtx, c, sentOn(&ctx.Request.Header, c.secrets), ctx.Request.Body())
	if r != nil {
		end()
		p.refuse(ctx, c, r)
		return
	}
	res.Request = nil // it holds the body, and the answer may take long
	if c.unwanted.Store(true); c.gone.Load() {
		res.Body.Close()
		end()
		p.count(c, res.StatusCode, 0)
		p.log(c, res.StatusCode, 0, "error", "the caller had gone when the answer came", "caller_gone", true)
		gone().answer(ctx)
		return
	}
	p.pass(ctx, c, res, end)
}

// watched is a connection that is looked at while nobody reads from it, as those of pkg/ingest are.
type watched interface {
	Watch(gone func()) (stop func())
}

// watch calls gone when the client of a connection goes away before stop is called.
func watch(conn net.Conn, gone func()) (stop func()) {
	if w, ok := conn.(watched); ok {
		return w.Watch(gone)
	}
	return func() {}
}

// callerGone ends a call that does no more good: one that reads, at once. A write that HubSpot has may be carried out, whatever becomes of its connection, and the log is to have what
// came of it: its answer is waited for.
func (c *call) callerGone(cancel func()) {
	if c.gone.Store(true); c.unwanted.Load() {
		cancel()
	}
}

// reads says whether a call changes nothing.
func (c *call) reads() bool {
	return c.method == http.MethodGet || c.method == http.MethodHead || c.method == http.MethodPost && (strings.HasSuffix(c.path, "/search") || strings.HasSuffix(c.path, "/batch/read"))
}

// forward makes the call, and once more where HubSpot refuses the token. What it returns is to be closed.
func (p *Proxy) forward(ctx context.Context, c *call, header http.Header, body []byte) (*http.Response, *refusal) {
	accounts := p.opts.Connections(c.app.Config.Name)
	if c.hub = accounts.Hub(c.account); c.hub == "" {
		return nil, &refusal{
			status: fasthttp.StatusNotFound, reason: "not_connected", message: "The account is not connected", detail: "it is connected by a link that POST /api/v1/connections answers",
		}
	}
	for {
		token, err := accounts.Token(ctx, c.account, c.hub)
		switch {
		case c.gone.Load(): // nothing is under way
			return nil, gone()
		case err != nil:
			return nil, withoutToken(ctx, err)
		}
		c.secrets = append(c.secrets, string(token))
		room, err := c.app.spare.Take(c.hub, c.method, c.path)
		if full, ok := errors.AsType[*hubspot.NoRoom](err); ok {
			return nil, noRoom(full)
		}
		res, r := p.send(ctx, c, room, header, body, token)
		switch {
		case r != nil:
			return nil, r
		case res.StatusCode != http.StatusUnauthorized:
			return res, checked(c, res)
		}
		res.Body.Close()
		if c.attempts > 1 || !accounts.Doubted(ctx, c.account, token) {
			return nil, &refusal{
				status: fasthttp.StatusBadGateway, reason: "remote", message: "HubSpot refuses the account's token for the call",
				detail: "it is a new one: the call may take another kind of credentials, or the account has to connect anew, if this goes on",
			}
		}
	}
}

// noRoom is the answer where deliveries, or calls before, leave nothing of the quota.
func noRoom(full *hubspot.NoRoom) *refusal {
	r := &refusal{
		status: fasthttp.StatusTooManyRequests, reason: "quota", message: "There is no room for the call in the account's quota", detail: full.What, wait: max(full.Wait, time.Millisecond),
		policy: full.Policy,
	}
	if r.policy == "SECONDLY" { // of searches: HubSpot's clients know this refusal by its text
		r.message = "You have reached your secondly limit."
	}
	return r
}

// withoutToken is the answer while there is no token.
func withoutToken(ctx context.Context, err error) *refusal {
	if block, ok := errors.AsType[*destinations.BlockError](err); ok {
		if block.Until.IsZero() {
			return &refusal{status: fasthttp.StatusConflict, reason: "reconnect", message: "The account has to connect anew", detail: block.Err.Error()}
		}
		return &refusal{
			status: fasthttp.StatusBadGateway, reason: "remote", message: "HubSpot gives no token for the account", detail: block.Err.Error(), wait: max(time.Until(block.Until), time.Second),
		}
	}
	if ctx.Err() != nil {
		return late()
	}
	r := &refusal{status: fasthttp.StatusBadGateway, reason: "remote", message: "HubSpot gives no token for the account", detail: err.Error(), wait: time.Second}
	if again, ok := errors.AsType[*destinations.RetryError](err); ok {
		r.wait = max(again.After, time.Second)
	}
	return r
}

// gone is of a caller that has closed its connection: nobody reads the answer but who has closed one side of it only. The status is the one that servers have for this in their logs.
func gone() *refusal {
	return &refusal{status: statusGone, reason: "gone", message: "The caller has gone", detail: "its connection was closed before the answer came"}
}

func late() *refusal {
	return &refusal{status: fasthttp.StatusGatewayTimeout, reason: "timeout", message: "HubSpot did not answer in time", detail: "proxy.timeout of the app is up; the call may have been made"}
}

// send makes one call. It uses up room.
func (p *Proxy) send(ctx context.Context, c *call, room *hubspot.SpareCall, header http.Header, body []byte, token config.Secret) (*http.Response, *refusal) {
	req, err := newRequest(ctx, c, header, body, token)
	if err != nil {
		room.Release()
		return nil, badPath("it can not be sent on") // err quotes it
	}
	room.Begin()
	c.attempts++
	res, err := p.opts.Transport.RoundTrip(req) // which follows no redirects
	if err != nil {
		room.Answered(0, nil, nil)
		switch {
		case c.gone.Load() && c.reads():
			return nil, gone()
		case ctx.Err() != nil:
			return nil, late()
		}
		return nil, &refusal{status: fasthttp.StatusBadGateway, reason: "remote", message: "HubSpot does not answer", detail: "there was no complete answer; the call may have been made", wait: time.Second}
	}
	var text []byte
	if res.StatusCode == http.StatusTooManyRequests {
		text, _ = io.ReadAll(io.LimitReader(res.Body, maxRefusalBytes)) // cut short it says less
		res.Body.Close()
		res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	}
	room.Answered(res.StatusCode, res.Header, text)
	return res, nil
}

// newRequest is the call as HubSpot gets it.
func newRequest(ctx context.Context, c *call, header http.Header, body []byte, token config.Secret) (*http.Request, error) {
	address := c.app.Config.BaseURL + c.path
	if c.query != "" {
		address += "?" + c.query
	}
	var from io.Reader // nil: none
	if len(body) > 0 {
		from = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, address, from)
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone()
	if key, ok := req.Header["Idempotency-Key"]; ok {
		// net/http makes a call again whose connection breaks if it has this header, and looks for it as it is written here.
		delete(req.Header, "Idempotency-Key")
		req.Header["idempotency-key"] = key
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	req.Header.Set("User-Agent", destinations.UserAgent())
	return req, nil
}

// checked says what is wrong with an answer that is not passed on.
func checked(c *call, res *http.Response) *refusal {
	limit := c.app.Config.Proxy.MaxBytes
	switch status := res.StatusCode; {
	case status < 200, status >= 300 && status < 400 && status != http.StatusNotModified:
		res.Body.Close()
		return &refusal{
			status: fasthttp.StatusBadGateway, reason: "remote", message: "HubSpot's answer is not passed on", detail: "it is " + strconv.Itoa(status) + ": redirects are not followed, and lead elsewhere",
		}
	case res.ContentLength > limit:
		res.Body.Close()
		return &refusal{
			status: fasthttp.StatusBadGateway, reason: "size", message: "HubSpot's answer is too large", detail: "proxy.max_bytes of the app is " + byteCount(limit) + "; ask for less at a time",
		}
	}
	return nil
}

func byteCount(n int64) string { return strconv.FormatInt(n, 10) + " bytes" }

// pass sends an answer on. end is called when all of it is sent, or nobody takes it.
func (p *Proxy) pass(ctx *fasthttp.RequestCtx, c *call, res *http.Response, end func()) {
	ctx.SetStatusCode(res.StatusCode)
	out := &ctx.Response.Header
	for name, values := range answered(res.Header, c.secrets) {
		for _, v := range values {
			out.Add(name, v)
		}
	}
	if res.Header.Get("Content-Type") == "" {
		out.SetNoDefaultContentType(true)
	}
	done := func(n int64, err error) {
		res.Body.Close()
		end()
		if err != nil && c.gone.Load() { // which has ended the call
			err = errCut
		}
		p.audit(c, res.StatusCode, n, err)
	}
	if ctx.IsHead() || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified {
		ctx.Response.SkipBody = true
		if ctx.IsHead() && res.ContentLength >= 0 {
			out.SetContentLength(int(res.ContentLength))
		}
		done(0, nil)
		return
	}
	conn := ctx.Conn()
	s := &stream{
		source: res.Body, size: res.ContentLength, most: c.app.Config.Proxy.MaxBytes, done: done,
		before: func() { _ = conn.SetWriteDeadline(time.Now().Add(writeTime)) }, // of a broken connection the write tells
	}
	for _, secret := range c.secrets {
		s.secrets = append(s.secrets, []byte(secret))
	}
	ctx.Response.ImmediateHeaderFlush = true
	ctx.SetBodyStream(s, int(res.ContentLength))
}

// refused counts a call that is refused, and writes its line where it is known who called: what others send is theirs to choose, without end.
func (p *Proxy) refused(c *call, r *refusal) {
	if c.app == nil { // its name is the caller's invention
		return
	}
	p.metrics.refused.WithLabelValues(c.app.Config.Name, r.reason).Inc()
	if c.attempts > 0 {
		p.count(c, 0, 0)
	}
	if c.known {
		more := []any{"refused", r.reason, "error", r.message}
		if c.gone.Load() {
			more = append(more, "caller_gone", true)
		}
		p.log(c, r.status, 0, more...)
	}
}

// audit counts a call whose answer was passed on, and writes its line.
func (p *Proxy) audit(c *call, status int, bytes int64, err error) {
	p.count(c, status, bytes)
	if err != nil {
		p.log(c, status, bytes, "error", err.Error())
		return
	}
	p.log(c, status, bytes)
}

// count counts a call that was made; status 0: there was no answer, or none that is passed on.
func (p *Proxy) count(c *call, status int, bytes int64) {
	name := c.app.Config.Name
	p.metrics.calls.WithLabelValues(name, class(status)).Inc()
	p.metrics.bytes.WithLabelValues(name).Add(float64(bytes))
	p.metrics.seconds.WithLabelValues(name).Observe(time.Since(c.began).Seconds())
}

// log writes the line of a call, with the status that the caller got, or would have got. Neither bodies nor what a query says are in it.
func (p *Proxy) log(c *call, status int, bytes int64, more ...any) {
	attrs := append([]any{"app", c.app.Config.Name, "account", c.account, "hub", c.hub}, slogAttr(c)...)
	attrs = append(attrs, "method", c.method, "path", c.shown, "status", status, "bytes", bytes, "ms", time.Since(c.began).Milliseconds())
	p.opts.Logger.Info("proxied call", append(attrs, more...)...)
}

// slogAttr says who called.
func slogAttr(c *call) []any {
	if c.apiKey == "" {
		return []any{"end_user", true}
	}
	return []any{"api_key", c.apiKey}
}
