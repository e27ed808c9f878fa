package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"

	"eventrouter/pkg/event"

	"github.com/valyala/fasthttp"
)

// An upload is a request of any length whose events are read, checked and made durable piece by piece. Unlike other requests it may be
// stored in part: its answer says how far it came.
//
//	body ─▶ pace ─▶ gunzip ─▶ form ─▶ gunzip ─▶ lines ─▶ check ─▶ chunk ─▶ Log.Append, while the next chunk is read

var bulkUpload = &endpoint{secret: serverSecret, class: event.Bulk, source: "bulk"}

const (
	// bulkChunkEvents and bulkChunkBytes are made durable by one Append.
	bulkChunkEvents = 1000
	maxUploadID     = 200

	// lineSlack is for white space around an event, fallbackSlack for what stands beside it in a line of a fallback file.
	lineSlack     = 4 << 10
	fallbackSlack = 64 << 10
)

var (
	refuseNoServerToken = &refusal{
		status: fasthttp.StatusUnauthorized, reason: reasonToken,
		message: "The token isn't a server token. Please use an s2s integration token",
	}
	refuseUnfed = &refusal{
		status: fasthttp.StatusUnprocessableEntity, reason: reasonToken,
		message: "No destination is configured for this token (or only staged ones)", detail: "an upload to nowhere is taken for a mistake",
	}
)

// uploadOptions are the parameters of an upload.
type uploadOptions struct {
	skipMalformed bool   // pass over lines that hold no event
	fallback      bool   // each line is one of Jitsu's fallback files
	id            string // upload_id: events without an id of their own get one of this and their line's number
	firstLine     int64  // number of the first line
}

func readUploadOptions(args *fasthttp.Args) (uploadOptions, *refusal) {
	o := uploadOptions{
		skipMalformed: args.GetBool("skip_malformed"), fallback: args.GetBool("fallback"),
		id: string(args.Peek("upload_id")), firstLine: 1,
	}
	if text := args.Peek("first_line"); len(text) > 0 {
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil || n < 1 {
			return o, refuseParameter("first_line must be a number from 1")
		}
		o.firstLine = n
	}
	if len(o.id) > maxUploadID {
		return o, refuseParameter(fmt.Sprintf("upload_id must be at most %d bytes", maxUploadID))
	}
	return o, nil
}

func refuseParameter(detail string) *refusal {
	return &refusal{status: fasthttp.StatusBadRequest, reason: reasonBody, message: "Wrong parameter of the upload", detail: detail}
}

// upload is one that is under way.
type upload struct {
	server  *Server
	src     access
	options uploadOptions
	env     event.Event // what all its events have in common
	idSeed  []byte      // what the id of an event without one is a hash of; the last 8 bytes are the line's number

	*uploadBuffers
	lines   *lines
	numbers []int64     // of b.elements
	checks  bool        // only a look at the lines: nothing is stored
	first   *refusal    // at the first bad line that such a look found
	errors  []lineError // the first of them
	last    *lineError  // the one that stopped the upload

	read    progress // what is read, of which some may not be durable yet
	stored  progress // what is durable, and what was passed over before it
	pending *chunk   // is being made durable
	result  chan *refusal
}

// progress is how far an upload came.
type progress struct {
	next                         int64 // the line to go on with
	received, accepted, rejected int64 // lines that are not blank
	listed                       int   // of upload.errors
}

// lineError is a line that holds no event.
type lineError struct {
	line   int64
	reason string
}

// uploadBuffers are what an upload holds in memory, pooled.
type uploadBuffers struct {
	b      *batch
	text   []byte   // for lines
	chunks [2]chunk // one is filled while the other is made durable
	turn   int      // the one to be filled
}

var uploadBufferPool = sync.Pool{New: func() any { return &uploadBuffers{} }}

// release gives the buffers back, unless large events have made them larger than common.
func (u *uploadBuffers) release() {
	u.b.release()
	u.b = nil
	if cap(u.text) > 2*bulkChunkBytes || cap(u.chunks[0].buf)+cap(u.chunks[1].buf) > 8*bulkChunkBytes {
		return
	}
	uploadBufferPool.Put(u)
}

// chunk is what one Append makes durable, and how far the upload has come then.
type chunk struct {
	buf  []byte
	ends []int
	recs [][]byte
	upTo progress
}

// upload answers a request to the bulk route.
func (s *Server) upload(ctx *fasthttp.RequestCtx) {
	u := &upload{server: s, uploadBuffers: uploadBufferPool.Get().(*uploadBuffers), result: make(chan *refusal, 1)}
	u.b = acquireBatch()
	defer u.release()

	r := u.admit(ctx)
	if r == nil {
		var leave func()
		if leave, r = s.uploads.enter(u.src.key.id, ctx.Conn()); r == nil {
			s.metrics.uploads.Inc()
			r = u.take(ctx)
			s.metrics.uploads.Dec()
			leave()
		}
	}
	if u.src.key != nil {
		u.src.key.badLines.Add(float64(u.stored.rejected))
	}
	if r != nil {
		s.refuseUpload(ctx, u, r)
		return
	}
	finishBody(ctx) // what stands behind a form
	u.answer(ctx, nil)
}

// admit finds out who uploads, and how.
func (u *upload) admit(ctx *fasthttp.RequestCtx) (r *refusal) {
	s := u.server
	src, r := s.authenticate(ctx, u.b, bulkUpload)
	switch {
	case r == refuseClientSecret:
		return refuseNoServerToken
	case r != nil:
		return r
	case !src.key.feeds:
		return refuseUnfed
	}
	if src.old {
		s.oldSecret(src.key)
	}
	if r := src.checkOrigin(ctx); r != nil {
		return r
	}
	if u.options, r = readUploadOptions(ctx.QueryArgs()); r != nil {
		return r
	}
	u.src = src
	u.read.next, u.stored.next = u.options.firstLine, u.options.firstLine
	u.env = s.envelope(ctx, u.b, bulkUpload, src, s.opts.Now())
	u.env.Added = nil // headers of the upload tell nothing of its events
	if u.options.id != "" {
		u.idSeed = fmt.Appendf(nil, "upload\x00%s\x00%s\x0000000000", src.key.id, u.options.id)
	}
	return nil
}

// take reads and stores the upload.
func (u *upload) take(ctx *fasthttp.RequestCtx) *refusal {
	s := u.server
	payload, err := openPayload(&ctx.Request.Header, s.uploadBody(ctx))
	if err != nil {
		return unreadableUpload(err)
	}
	if most := s.config().MaxBulkBytes; most > 0 {
		payload = &boundedText{text: payload, left: most, most: most}
	}
	if u.options.skipMalformed {
		return u.run(payload)
	}
	begin, err := readUpTo(payload, s.limits().body)
	switch {
	case err == nil:
		return u.run(io.MultiReader(bytes.NewReader(begin), payload))
	case !errors.Is(err, io.EOF):
		return unreadableUpload(err)
	}
	// It fits into the memory of a common request, so it is taken whole or not at all, as those are.
	u.checks = true
	if r := u.run(bytes.NewReader(begin)); r != nil {
		return r
	}
	u.checks, u.read = false, u.stored
	return u.run(bytes.NewReader(begin))
}

// run stores all events of text, or stops at what the refusal says.
func (u *upload) run(text io.Reader) *refusal {
	limit := u.server.limits().event + lineSlack
	if u.options.fallback {
		limit = 2*u.server.limits().event + fallbackSlack
	}
	u.text = slices.Grow(u.text[:0], max(bulkChunkBytes, 2*limit))
	u.lines = newLines(text, limit, u.options.firstLine, u.text[:cap(u.text)])
	u.lines.tooLongText = fmt.Sprintf("Event size exceeds limit: %d", u.server.limits().event)
	defer u.wait() // nothing of u is in use when it returns
	for {
		err := u.lines.fill()
		if r := u.gather(); r != nil {
			return r
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF):
			return u.stop(unreadableUpload(err))
		case u.first != nil:
			u.stored.received, u.stored.rejected, u.stored.listed = u.read.received, u.read.rejected, u.read.listed
			return u.first
		default:
			return u.finish()
		}
	}
}

// gather takes all events that are in the buffer. A bug that one crafted line reaches must not end the process for all.
func (u *upload) gather() (r *refusal) {
	defer u.server.rescue(&r)
	for {
		ln, ok := u.lines.next()
		if !ok {
			return u.flush() // the bytes are gone with the next fill
		}
		problem := ln.problem
		if problem == "" {
			problem = u.event(ln)
		}
		if problem != "" {
			if w := u.server.opts.Watcher; w != nil {
				w.Malformed(u.src.key.id, ln.of(u.lines.buf), problem)
			}
			if r := u.bad(ln, problem); r != nil {
				return r
			}
		}
		u.read.received++
		u.read.next = ln.number + 1
		if len(u.b.elements) >= bulkChunkEvents {
			if r := u.flush(); r != nil {
				return r
			}
		}
	}
}

// bad notes a line that holds no event; a refusal stops the upload there.
func (u *upload) bad(ln line, problem string) *refusal {
	e := lineError{ln.number, problem}
	if r := refuseLine(e); u.checks {
		if u.first == nil {
			u.first = r
		}
		if ln.broken {
			u.lines.err = io.EOF
		}
	} else if ln.broken || !u.options.skipMalformed {
		u.read.next, u.last = ln.number, &e
		return u.stop(r)
	}
	u.read.rejected++
	if len(u.errors) < maxListedErrors {
		u.errors = append(u.errors, e)
	}
	u.read.listed = len(u.errors)
	return nil
}

// stop ends the upload at what r says, with everything before that stored. Where that cannot be stored, it is why.
func (u *upload) stop(r *refusal) *refusal {
	if failed := u.finish(); failed != nil {
		u.last = nil
		return failed
	}
	return r
}

// finish stores what is read.
func (u *upload) finish() *refusal {
	if r := u.flush(); r != nil {
		return r
	}
	return u.wait()
}
