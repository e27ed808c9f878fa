package ingest

import (
	"fmt"
	"strconv"

	"eventrouter/pkg/appevents"
	"eventrouter/pkg/event"

	"github.com/valyala/fasthttp"
)

// reason is why a request was rejected: the closed list of values of a metric's label.
type reason uint8

const (
	reasonRoute       reason = iota // no such route or method
	reasonToken                     // no key, an unknown one, one of the other kind
	reasonBody                      // not JSON, or not events
	reasonSize                      // an event, the body or the number of events
	reasonDepth                     // nesting
	reasonFull                      // the log is full
	reasonFailed                    // the log can not store
	reasonRefused                   // a lane that the key feeds is full
	reasonRate                      // more events than the key may send
	reasonOrigin                    // a page that is none of the key's
	reasonConnections               // too many connections, in all or of one address
	reasonHTTP                      // not readable as HTTP: headers too long, timeout
	reasonBusy                      // too many large requests
	reasonInternal                  // a bug here
	reasons
)

var reasonNames = [reasons]string{"route", "token", "body", "size", "depth", "full", "failed", "refused", "rate", "origin", "connections", "http", "busy", "internal"}

// refusal is an answer other than success.
type refusal struct {
	status     int
	reason     reason
	message    string                // what Jitsu's clients look for
	detail     string                // where, or what to do: the envelope's `error`
	retryAfter int                   // seconds; 0: no header
	violations []appevents.Violation // of what is demanded of an app event
}

// bodyMessage is how Jitsu begins what it says of a bad body.
const bodyMessage = "Error parsing events body: "

// malformed refuses a body with Jitsu's beginning of the message.
func malformed(text, where string) *refusal {
	return &refusal{status: fasthttp.StatusBadRequest, reason: reasonBody, message: bodyMessage + text, detail: where}
}

func refuseEventSize(text, where string) *refusal {
	r := malformed(text, where)
	r.reason = reasonSize
	return r
}

func refuseDepth(at int) *refusal {
	r := malformed(fmt.Sprintf("nesting exceeds limit: %d", maxDepth), fmt.Sprintf("at byte %d", at))
	r.reason = reasonDepth
	return r
}

func refuseBodySize(limit int) *refusal {
	return &refusal{
		status: fasthttp.StatusRequestEntityTooLarge, reason: reasonSize,
		message: fmt.Sprintf("Request body exceeds limit: %d", limit), detail: "counted after decompression and with the template, or the batch's context, merged in; send fewer events at a time",
	}
}

// maxEnvelopes is how many times the limit of a body the User-Agent and the headers may take that are stored with each of its events.
const maxEnvelopes = 4

var refuseEnvelopes = &refusal{
	status: fasthttp.StatusRequestEntityTooLarge, reason: reasonSize,
	message: "Number of events is too large for such long headers", detail: "User-Agent and noted headers are stored with each event; send fewer events at a time",
}

func refuseEventCount(limit int) *refusal {
	return &refusal{
		status: fasthttp.StatusRequestEntityTooLarge, reason: reasonSize,
		message: fmt.Sprintf("Number of events exceeds limit: %d", limit), detail: "send fewer events at a time",
	}
}

// answer writes r as {"message","error"}.
func (r *refusal) answer(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(r.status)
	ctx.Response.Header.SetContentTypeBytes(typeJSON)
	if r.retryAfter > 0 {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(r.retryAfter))
		ctx.Response.Header.Set(fasthttp.HeaderAccessControlExposeHeaders, fasthttp.HeaderRetryAfter) // else a page's script cannot read it
	}
	body := append([]byte(nil), `{"message":`...)
	body = event.AppendString(body, r.message)
	body = append(body, `,"error":`...)
	body = event.AppendString(body, r.detail)
	if len(r.violations) > 0 {
		body = append(body, `,"violations":[`...)
		for i, v := range r.violations {
			if i > 0 {
				body = append(body, ',')
			}
			body = event.AppendString(append(body, `{"path":`...), v.Path)
			body = append(event.AppendString(append(body, `,"problem":`...), v.Problem), '}')
		}
		body = append(body, ']')
	}
	ctx.SetBody(append(body, '}'))
}
