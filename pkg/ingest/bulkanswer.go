package ingest

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"eventrouter/pkg/event"

	"github.com/valyala/fasthttp"
)

const (
	// maxListedErrors bounds the lines that an answer tells of one by one, maxReasonBytes what it says of each.
	maxListedErrors = 100
	maxReasonBytes  = 200
)

var refuseFullLog = &refusal{
	status: fasthttp.StatusServiceUnavailable, reason: reasonFull, retryAfter: 5,
	message: "Events can not be stored at the moment, send them again later", detail: "log is full",
}

// refuseLine stops an upload at a line that holds no event, in Jitsu's words.
func refuseLine(e lineError) *refusal {
	return &refusal{
		status: fasthttp.StatusBadRequest, reason: reasonBody, message: fmt.Sprintf("failed to parse JSON payload: line %d: %s", e.line, cut(e.reason)),
		detail: "mend the line, or send with skip_malformed=true to pass over such lines",
	}
}

// unreadableUpload turns an error of reading an upload into the answer.
func unreadableUpload(err error) *refusal {
	if known, ok := errors.AsType[payloadError](err); ok {
		return known.refusal
	}
	return &refusal{status: fasthttp.StatusInternalServerError, reason: reasonInternal, message: "Internal error"}
}

// refuseUpload answers r, with how far the upload came, also to a client that is still sending.
func (s *Server) refuseUpload(ctx *fasthttp.RequestCtx, u *upload, r *refusal) {
	s.metrics.rejected[r.reason].Inc()
	u.answer(ctx, r)
	s.finishRefused(ctx, r)
}

// answer says how far the upload came: all of it, or up to what r says.
//
//	{"status":"ok","received":3,"accepted":2,"rejected":1,"next_line":4,"errors":[{"line":2,"reason":"…"}]}
func (u *upload) answer(ctx *fasthttp.RequestCtx, r *refusal) {
	ctx.Response.Header.SetContentTypeBytes(typeJSON)
	var body []byte
	if r == nil {
		body = append(body, `{"status":"ok"`...)
	} else {
		r.answer(ctx)
		body = append(body, ctx.Response.Body()...)
		body = body[:len(body)-len("}")]
		if u.src.key == nil { // who is not known learns nothing more
			return
		}
	}
	told, p := u.errors[:u.stored.listed], u.stored
	leftOut := p.rejected - int64(len(told))
	if u.last != nil {
		told = append(told[:len(told):len(told)], *u.last)
		p.received++
		p.rejected++
	}
	body = fmt.Appendf(body, `,"received":%d,"accepted":%d,"rejected":%d,"next_line":%d,"errors":[`, p.received, p.accepted, p.rejected, p.next)
	for i, e := range told {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"line":`...)
		body = strconv.AppendInt(body, e.line, 10)
		body = append(body, `,"reason":`...)
		body = append(event.AppendString(body, cut(e.reason)), '}')
	}
	body = append(body, ']')
	if leftOut > 0 {
		body = fmt.Appendf(body, `,"errors_left_out":%d`, leftOut)
	}
	ctx.SetBody(append(body, '}'))
}

// cut shortens what may quote the client's text.
func cut(text string) string {
	if len(text) <= maxReasonBytes {
		return text
	}
	n := maxReasonBytes
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
