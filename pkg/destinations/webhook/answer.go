package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"eventrouter/pkg/destinations"
)

// answer is what an endpoint said.
type answer struct {
	status int
	header http.Header
	body   []byte // its beginning
}

// verdict is what an answer means.
type verdict struct {
	err   error // nil: delivered
	about scope
}

// scope says what a verdict is about.
type scope int

const (
	aRequest   scope = iota // this one: another may do better
	anEvent                 // one of its events
	everything              // each request that follows
)

// maxWait is the longest wait that an answer is believed to ask for.
const maxWait = time.Hour

// cause is what a status that concerns everything means, and what to do.
var causes = map[int]string{
	http.StatusUnauthorized:         "check the credentials in headers, and secret",
	http.StatusPaymentRequired:      "the endpoint's account has to pay",
	http.StatusForbidden:            "the endpoint does not let this router in; check the credentials in headers",
	http.StatusNotFound:             "nothing is at this url; check it",
	http.StatusMethodNotAllowed:     "the endpoint does not take this method; check method and url",
	http.StatusNotAcceptable:        "check the headers",
	http.StatusProxyAuthRequired:    "the proxy wants credentials; check proxy",
	http.StatusGone:                 "the endpoint was removed; remove the destination, or write another url",
	http.StatusUnsupportedMediaType: "check content_type",
	http.StatusMisdirectedRequest:   "the endpoint does not serve this host; check url",
	http.StatusUpgradeRequired:      "the endpoint wants another protocol; check url",
}

// ofURL are the causes that are about an event where that has a part in the URL: what it names may not be there, or may be closed.
var ofURL = []int{
	http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusGone,
	http.StatusUnsupportedMediaType, http.StatusMisdirectedRequest, http.StatusUpgradeRequired,
}

// ofCredentials are those that are about an event where that brings its own credentials.
var ofCredentials = []int{http.StatusUnauthorized, http.StatusForbidden}

var credential = regexp.MustCompile(`(?i)^cookie$|auth|token|api-?key`)

// provesItself says whether all credentials of a request come from its event, and none from the configuration.
func (d *Destination) provesItself(t *target) bool {
	own := false
	for _, h := range t.headers {
		if credential.MatchString(h.name) {
			if !h.made {
				return false
			}
			own = true
		}
	}
	return own && len(d.signer.keys) == 0
}

// judge says what came of a call.
func (d *Destination) judge(ctx context.Context, c *call, a *answer, err error) verdict {
	if err != nil {
		return d.judgeError(ctx, c, err)
	}
	said := func(what string) error { return d.quote(c, a, what) }
	cause, general := causes[a.status]
	switch {
	case c.target.foreign, c.target.made && slices.Contains(ofURL, a.status), slices.Contains(ofCredentials, a.status) && d.provesItself(c.target):
		general = false
	}
	wait := retryAfter(a.header, time.Now())
	switch {
	case a.status >= 200 && a.status < 300:
		return verdict{}
	case a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly, a.status == http.StatusTooManyRequests, a.status >= 500:
		err := said("")
		if destinations.AnsweredByGateway(a.status) {
			err = destinations.Unavailable(err)
		}
		if a.status == http.StatusTooManyRequests {
			d.metrics.QuotaRefused(d.name, refusedPolicy)
		}
		about := c.scopeOf(a.status)
		if wait == 0 {
			return verdict{err: err, about: about}
		}
		if !c.target.foreign {
			d.gate.close(time.Now().Add(wait), err)
		}
		return verdict{err: destinations.RetryAfter(err, wait), about: about}
	case general:
		return verdict{err: destinations.Block(said(cause), destinations.LaneScope, time.Time{}), about: everything}
	case a.status < 400:
		err := d.redirected(c, a)
		if c.target.made {
			return verdict{err: destinations.Reject(err), about: anEvent}
		}
		return verdict{err: destinations.Block(err, destinations.LaneScope, time.Time{}), about: everything}
	}
	return verdict{err: destinations.Reject(said("")), about: anEvent}
}

// scopeOf says whether a failure with a status is that of the next request too. Some may be of this one, and another host is another matter.
func (c *call) scopeOf(status int) scope {
	switch status {
	case http.StatusInternalServerError, http.StatusRequestTimeout, http.StatusTooEarly:
		return aRequest
	}
	if c.target.foreign {
		return aRequest
	}
	return everything
}

// judgeError is about a call without a whole answer.
func (d *Destination) judgeError(ctx context.Context, c *call, err error) verdict {
	var refused *refusedError
	switch {
	case ctx.Err() != nil:
		return verdict{err: fmt.Errorf("cut short: %w", ctx.Err()), about: everything}
	case errors.As(err, &refused) && c.target.foreign:
		return verdict{err: destinations.Reject(refused), about: anEvent}
	case errors.As(err, &refused):
		return verdict{err: destinations.Block(refused, destinations.LaneScope, time.Time{}), about: everything}
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no whole answer within %s", d.set.Timeout)
	default:
		err = errors.New("no whole answer: " + shorten(d.clean(c, destinations.PlainError(err).Error())))
	}
	return verdict{err: destinations.Unavailable(err), about: c.scopeOf(0)}
}

// redirected is about an answer that leads where the router does not follow.
func (d *Destination) redirected(c *call, a *answer) error {
	to := "nowhere"
	if u, err := url.Parse(a.header.Get("Location")); err == nil && a.header.Get("Location") != "" {
		to = "another place on this host" // a path may be a secret
		if u.Host != "" {
			to = d.clean(c, shorten(strings.ToLower(u.Scheme+"://"+u.Host)))
		}
	}
	return fmt.Errorf("the endpoint answered %d, a redirect to %s, which is not followed: only 307 and 308 are, at most %d, and to the same host; write the url that it leads to",
		a.status, to, maxRedirects)
}

// quote is an answer as an error: its status, what to do, and the beginning of what it says.
func (d *Destination) quote(c *call, a *answer, what string) error {
	text := fmt.Sprintf("the endpoint answered %d", a.status)
	if what != "" {
		text += ", " + what
	}
	if words := shorten(d.clean(c, string(a.body))); words != "" {
		text += ": " + words
	}
	return errors.New(text)
}

// maxQuote is how much of an answer an error quotes, in bytes.
const maxQuote = 200

// shorten is the beginning of what a remote says, in one line, without what would do something to the terminal that shows it.
func shorten(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\ufffd")), " ")
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
	if len(s) <= maxQuote {
		return s
	}
	return strings.ToValidUTF8(s[:maxQuote], "") + "…"
}

// retryAfter reads how long to wait: seconds or a date; 0: it does not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxWait/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(sentAt(h, now)), 0), maxWait)
	}
	return 0
}

// sentAt is when an answer was sent, by the clock of the remote, which may be another than ours; now where it does not say.
func sentAt(h http.Header, now time.Time) time.Time {
	if at, err := http.ParseTime(h.Get("Date")); err == nil {
		return at
	}
	return now
}

// final says whether an outcome lets later events of its key go on.
func final(err error) bool {
	var rejected *destinations.RejectError
	_, skipped := destinations.IsSkip(err)
	return err == nil || skipped || errors.As(err, &rejected)
}
