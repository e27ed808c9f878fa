package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"eventrouter/pkg/store"
)

// letterStream is an export as it is read: lines of dead letters, few of which are in memory at a time. An error cuts it off.
type letterStream struct {
	ctx   context.Context
	store *store.Store
	query store.DeadLetterQuery // of what is not read yet
	ready []byte
	end   bool
}

// Read implements [io.Reader].
func (s *letterStream) Read(b []byte) (int, error) {
	for len(s.ready) == 0 {
		if s.end {
			return 0, io.EOF
		}
		s.end = true
		err := eachLetter(s.ctx, s.store, s.query, func(d *store.DeadLetter, damaged string) (err error) {
			if len(s.ready) > 1<<20 {
				s.end = false
				return errEnough
			}
			s.query.Past = d.ID
			s.ready, _, err = appendLetterLine(s.ready, d, damaged)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	n := copy(b, s.ready)
	if s.ready = s.ready[n:]; len(s.ready) == 0 {
		s.ready = nil // large ones are not kept
	}
	return n, nil
}

// export notes an export and begins it.
func (p *lettersPages) export(r *http.Request) (*letterStream, error) {
	if err := refuseCrossOrigin(r); err != nil {
		return nil, err
	}
	v := r.URL.Query()
	q, err := lettersQuery(v)
	if err != nil {
		return nil, err
	}
	var f letterFilter
	_ = f.read(v) // as lettersQuery has
	ctx, cancel := context.WithTimeout(context.Background(), changing)
	defer cancel()
	sum, err := p.store.SummarizeDeadLetters(ctx, q)
	if err != nil {
		return nil, err
	}
	target := addressOf(r.RemoteAddr)
	if file := v.Get("file"); file != "" { // as the command says
		target = strings.TrimSpace(target + " " + cut(line(file), 1000))
	}
	// Before the first byte has left: it may be kept by somebody whatever becomes of this one.
	if err := p.store.RecordExport(ctx, store.Export{At: time.Now(), Target: target, Query: f.words(), Letters: sum.Letters}); err != nil {
		return nil, err
	}
	q.Bodies, q.OldestFirst = true, true
	return &letterStream{ctx: context.Background(), store: p.store, query: q}, nil
}

// addressOf is an address without its port.
func addressOf(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
}

// exportPage answers GET /api/v1/deadletters/export. Where it fails on the way the answer is cut off, which clients notice.
func (p *lettersPages) exportPage(ctx *fasthttp.RequestCtx) {
	var r http.Request
	err := fasthttpadaptor.ConvertRequest(ctx, &r, true)
	var stream *letterStream
	if err == nil {
		stream, err = p.export(&r)
	}
	if err != nil {
		refused := p.refusal(&r, err)
		ctx.SetStatusCode(refused.status)
		ctx.SetContentType("application/json; charset=utf-8")
		data, _ := p.hidden().json(refused)
		ctx.SetBody(data)
		return
	}
	ctx.SetContentType("application/x-ndjson; charset=utf-8")
	ctx.SetBodyStream(&unhurried{stream, ctx.Conn()}, -1)
}

// unhurried reads what is sent on a connection, and gives each piece the time that an answer may take as a whole.
type unhurried struct {
	io.Reader
	conn net.Conn
}

const pieceTime = 30 * time.Second

func (u *unhurried) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if u.conn != nil {
		_ = u.conn.SetWriteDeadline(time.Now().Add(pieceTime)) // of a broken connection the next write tells
	}
	return n, err
}

// inProcess carries requests to the pages where no router runs.
type inProcess struct{ pages *lettersPages }

// RoundTrip implements [http.RoundTripper].
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, ProtoMajor: 1, ProtoMinor: 1}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	if r.Method == http.MethodGet && r.URL.Path == lettersPath+"/export" {
		stream, err := t.pages.export(r)
		if err == nil {
			stream.ctx = r.Context()
			res.Body = io.NopCloser(stream)
			return res, nil
		}
		refused := t.pages.refusal(r, err)
		data, err := json.Marshal(refused)
		res.StatusCode, res.Body = refused.status, io.NopCloser(strings.NewReader(string(data)))
		return res, err
	}
	w := &buffered{header: res.Header}
	t.pages.ServeHTTP(w, r)
	if w.status != 0 {
		res.StatusCode = w.status
	}
	res.Body = io.NopCloser(strings.NewReader(w.body.String()))
	return res, r.Context().Err()
}

// buffered is an answer in memory.
type buffered struct {
	header http.Header
	status int
	body   strings.Builder
}

// Header are the headers of the answer, which are kept until it is whole.
func (w *buffered) Header() http.Header { return w.header }

// WriteHeader keeps the status.
func (w *buffered) WriteHeader(status int) { w.status = status }

// Write keeps a part of the body; it never fails.
func (w *buffered) Write(b []byte) (int, error) { return w.body.Write(b) }
