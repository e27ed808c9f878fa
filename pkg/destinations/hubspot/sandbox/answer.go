package sandbox

import (
	"net/http"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
)

// answer is a finished response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// Categories of errors.
const (
	validationError = "VALIDATION_ERROR"
	conflict        = "CONFLICT"
	notFound        = "OBJECT_NOT_FOUND"
	alreadyExists   = "OBJECT_ALREADY_EXISTS"
	missingScopes   = "MISSING_SCOPES"
	invalidAuth     = "INVALID_AUTHENTICATION"
	expiredAuth     = "EXPIRED_AUTHENTICATION"
	rateLimits      = "RATE_LIMITS"
)

// apiError is an error of a whole call, or of one item of a partial success.
type apiError struct {
	status      int
	message     string
	category    string
	subCategory string
	context     []contextEntry
	details     []problem // errors[]
	policyName  string    // of a 429
}

// contextEntry is one member of an error's context.
type contextEntry struct {
	name   string
	values []string
}

func badInput(message string) *apiError {
	return &apiError{status: http.StatusBadRequest, category: validationError, message: message}
}

func missing(message string, context ...contextEntry) *apiError {
	return &apiError{status: http.StatusNotFound, category: notFound, message: message, context: context}
}

// fail answers with e.
func (st *state) fail(e *apiError) answer {
	b := append(make([]byte, 0, 512), `{"status":"error","message":`...)
	b = appendString(b, e.message)
	if e.policyName != "" {
		b = append(b, `,"errorType":"RATE_LIMIT"`...)
	}
	b = append(b, `,"correlationId":"`...)
	b = append(b, st.correlation...)
	b = append(b, '"')
	b = appendContext(b, e.context)
	b = appendDetails(b, e.details)
	b = appendMember(b, "policyName", e.policyName)
	if e.policyName != "" {
		b = appendMember(b, "requestId", st.correlation)
	}
	b = appendMember(b, "category", e.category)
	b = appendMember(b, "subCategory", e.subCategory)
	return answer{status: e.status, body: append(b, '}')}
}

// appendItemError appends one of the errors of a partial success: no correlationId, no errors[].
func appendItemError(b []byte, e *apiError) []byte {
	b = append(b, `{"status":"error"`...)
	b = appendMember(b, "category", e.category)
	b = appendMember(b, "subCategory", e.subCategory)
	b = appendMember(b, "message", e.message)
	b = appendContext(b, e.context)
	return append(b, '}')
}

// appendMember appends ,"name":"value", or nothing for an empty value.
func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendString(b, value)
}

func appendContext(b []byte, context []contextEntry) []byte {
	if len(context) == 0 {
		return b
	}
	b = append(b, `,"context":{`...)
	for i, c := range context {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, c.name)
		b = append(b, ':', '[')
		for j, v := range c.values {
			if j > 0 {
				b = append(b, ',')
			}
			b = appendString(b, v)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// maxDetails is how many problems errors[] lists; message lists all. A recording with four in message has three here.
const maxDetails = 3

func appendDetails(b []byte, details []problem) []byte {
	if len(details) == 0 {
		return b
	}
	b = append(b, `,"errors":[`...)
	for i, p := range details[:min(len(details), maxDetails)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"message":`...)
		b = appendString(b, p.message)
		b = appendMember(b, "code", p.code)
		b = append(b, `,"context":{"propertyName":[`...)
		b = appendString(b, p.name)
		b = append(b, "]}}"...)
	}
	return append(b, ']')
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return gjson.AppendJSONString(b, s)
		}
	}
	// Most have nothing to escape, and each list of properties has thousands of them.
	return append(append(append(b, '"'), s...), '"')
}

// stamp is a time and its text on the wire.
type stamp struct {
	at   time.Time
	text string
}

// stampOf renders t as HubSpot does: milliseconds, left out when zero.
func stampOf(t time.Time) stamp {
	t = t.UTC()
	layout := "2006-01-02T15:04:05.000Z"
	if t.Nanosecond() < int(time.Millisecond) {
		layout = "2006-01-02T15:04:05Z"
	}
	return stamp{t, t.Format(layout)}
}

// batchAnswer builds {completedAt,status,startedAt,results,errors,numErrors}: 207 when an item failed.
type batchAnswer struct {
	b        []byte
	n        int // results so far
	failures []apiError
}

func (st *state) newBatch(sizeHint int) *batchAnswer {
	a := &batchAnswer{b: make([]byte, 0, 256+sizeHint)}
	a.b = append(a.b, `{"completedAt":"`...)
	a.b = append(a.b, st.now.text...)
	a.b = append(a.b, `","status":"COMPLETE","startedAt":"`...)
	a.b = append(a.b, st.now.text...)
	a.b = append(a.b, `","results":[`...)
	return a
}

// next makes room for one more result.
func (a *batchAnswer) next() {
	if a.n > 0 {
		a.b = append(a.b, ',')
	}
	a.n++
}

// finish ends the answer; ok is the status when nothing failed.
func (a *batchAnswer) finish(ok int) answer {
	a.b = append(a.b, ']')
	if len(a.failures) == 0 {
		return answer{status: ok, body: append(a.b, '}')}
	}
	a.b = append(a.b, `,"errors":[`...)
	for i := range a.failures {
		if i > 0 {
			a.b = append(a.b, ',')
		}
		a.b = appendItemError(a.b, &a.failures[i])
	}
	a.b = append(a.b, `],"numErrors":`...)
	a.b = strconv.AppendInt(a.b, int64(len(a.failures)), 10)
	return answer{status: http.StatusMultiStatus, body: append(a.b, '}')}
}
