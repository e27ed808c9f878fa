package ingest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"eventrouter/pkg/event"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"
)

const pixelPath = "/api/v1/p.gif"

const (
	// visitorCookie is the name that Jitsu's pixel and SDK use.
	visitorCookie = "__eventn_id"
	// cookieAttributes let the cookie come along with images in pages of other sites. Scripts may read it: where router and site share a domain, Jitsu's SDK
	// keeps the same id in the same cookie. Browsers keep none for longer than 400 days; a year is long enough to know a visitor again.
	cookieAttributes = "; Path=/; Max-Age=31536000; Secure; SameSite=None"
	cookieGone       = visitorCookie + "=; Path=/; Max-Age=0; Secure; SameSite=None"
	// maxCookieBytes bounds an id that comes back: ours have 10.
	maxCookieBytes = 100
)

var (
	pixelImage = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\x00\x00!\xf9\x04\x01\x00\x00\x01\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02L\x01\x00;")
	pixelEvent = &endpoint{secret: clientSecret, source: "jitsu_gif"}
)

// pixel takes the event in the query of an image, as mails and pages without scripts send it. Whatever becomes of the token, the answer is the
// image: nobody sees another one, and a mail shall not show a broken one.
//
//	?data=BASE64-JSON&user.email=… ─▶ tree ─▶ + url, cookie's id, time ─▶ JSON ─▶ as any other event
func (s *Server) pixel(ctx *fasthttp.RequestCtx) {
	if ctx.IsHead() { // somebody looks whether the image is there; nobody has seen it
		answerPixel(ctx)
		return
	}
	received := s.opts.Now()
	b := acquireBatch()
	defer b.release()
	src, cookie, r := s.readPixel(ctx, b, received)
	if r == nil && src.key != nil {
		r = s.store(ctx, b, pixelEvent, src, received)
	}
	if r != nil {
		s.refuse(ctx, nil, r)
		return
	}
	answerPixel(ctx)
	if src.key == nil {
		return
	}
	if cookie != "" {
		ctx.Response.Header.Set(fasthttp.HeaderSetCookie, cookie)
	}
	s.metrics.observe(s.opts.Now().Sub(received))
}

func answerPixel(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.SetContentType("image/gif")
	h.Set(fasthttp.HeaderCacheControl, "no-store, no-cache, must-revalidate, max-age=0")
	h.Set(fasthttp.HeaderPragma, "no-cache")
	h.Set(fasthttp.HeaderExpires, "0")
	ctx.Response.SetBodyRaw(pixelImage)
}

// readPixel makes the event of the query b's only element, and says which cookie to set; "" for none. A request without a known key has no
// src: nothing of it is stored.
func (s *Server) readPixel(ctx *fasthttp.RequestCtx, b *batch, received time.Time) (src access, cookie string, r *refusal) {
	defer s.rescue(&r)
	data, r := b.pixelData(ctx.QueryArgs().Peek("data"), s.limits())
	if r != nil {
		src, unknown := s.sources.Load().authenticate(b.token(ctx), clientSecret)
		if unknown == nil {
			s.watchRefused(b, src.key, r, data)
		}
		return access{}, "", r
	}
	root := objectOf(gjson.Parse(view(data)))
	token := b.token(ctx)
	for _, name := range [...]string{"token", "api_key"} {
		if v := root.take(name); len(token) == 0 && v != nil {
			token = []byte(v.text())
		}
	}
	src, r = s.sources.Load().authenticate(token, clientSecret)
	if r != nil {
		s.metrics.rejected[r.reason].Inc()
		return access{}, "", nil
	}
	if r = s.admit(ctx, src, event.Live, received); r != nil {
		return access{}, "", r
	}
	if r = root.takeQuery(ctx, token); r != nil {
		return access{}, "", r
	}
	cookie, stamped := s.completePixel(ctx, b, root, received)
	return src, cookie, b.pixelElement(root, stamped, s.limits())
}

// pixelData decodes the parameter `data` into b.plain; nothing is an empty object. It is checked as a body is. What it returns with a refusal is for people to
// see: as far as it was decoded, for in base64 nobody would find the secrets that are to be hidden.
func (b *batch) pixelData(param []byte, lim limits) ([]byte, *refusal) {
	if len(param) == 0 {
		return []byte("{}"), nil
	}
	var err error
	if b.plain, err = appendBase64(b.plain[:0], param); err != nil {
		return b.plain, malformedPixel(err.Error(), "base64 is expected, of the standard or the URL alphabet")
	}
	data := bytes.TrimPrefix(b.plain, byteOrderMark)
	if !utf8.Valid(data) {
		b.clean = appendValidUTF8(b.clean[:0], data)
		data = b.clean
	}
	var r *refusal
	switch first := bytes.TrimLeft(data, " \t\r\n"); {
	case len(first) == 0 || first[0] != '{' && !json.Valid(data):
		r = syntaxError(data)
	case first[0] != '{':
		r = malformed("not an object", "")
	default:
		if r = b.scan(data, limits{event: lim.body, body: lim.body, events: lim.events}); r == nil && !gjson.ValidBytes(data) { // the whole event is measured later
			r = syntaxError(data)
		}
	}
	b.elements, b.scanner.cuts, b.object = b.elements[:0], b.scanner.cuts[:0], false
	if r != nil {
		text := strings.TrimPrefix(strings.TrimPrefix(r.message, bodyMessage), "error parsing HTTP body: ")
		return data, &refusal{status: r.status, reason: r.reason, message: pixelMessage + text, detail: r.detail}
	}
	return data, nil
}

// pixelMessage is how Jitsu begins what it says of bad data.
const pixelMessage = `Error unmarshalling event from "data": `

func malformedPixel(text, detail string) *refusal {
	return &refusal{status: fasthttp.StatusBadRequest, reason: reasonBody, message: pixelMessage + text, detail: detail}
}

// appendBase64 appends what text encodes: in either alphabet, padded or not, a plus also as the blank that it means in a query.
func appendBase64(dst, text []byte) ([]byte, error) {
	plain := bytes.Map(func(r rune) rune {
		switch r {
		case '-', ' ':
			return '+'
		case '_':
			return '/'
		case '\r', '\n':
			return -1
		}
		return r
	}, text)
	return base64.RawStdEncoding.AppendDecode(dst, bytes.TrimRight(plain, "="))
}

// maxPixelMembers bounds the parameters of a pixel: each is looked for among the others.
const maxPixelMembers = 1000

// takeQuery sets the query's parameters, each a text at its dotted path; the last of one name counts. What speaks to the router is none of the event's.
func (o *object) takeQuery(ctx *fasthttp.RequestCtx, token []byte) *refusal {
	n := 0
	for k, v := range ctx.QueryArgs().All() {
		if n++; n > maxPixelMembers {
			return &refusal{
				status: fasthttp.StatusBadRequest, reason: reasonSize,
				message: "Error parsing events body: Number of query parameters exceeds limit: 1000",
			}
		}
		path := splitPath(string(k))
		if len(path) == 0 || string(k) == "data" || len(token) > 0 && bytes.Equal(v, token) { // that one under whatever name
			continue
		}
		switch path[0] {
		case "token", "api_key", "cookie_policy", "ip_policy":
			continue
		}
		if len(path) > maxDepth {
			return refuseDepth(0)
		}
		o.set(path, textNode(string(v)))
	}
	return nil
}

// splitPath splits at the dots; names are not empty.
func splitPath(dotted string) []string {
	return strings.FieldsFunc(dotted, func(r rune) bool { return r == '.' })
}

// completePixel adds what a script would have told: where the image is shown, when, and who looks at it. What the event says itself stays. It returns the
// cookie to set, and whether the time is the router's own.
func (s *Server) completePixel(ctx *fasthttp.RequestCtx, b *batch, root *object, received time.Time) (cookie string, stamped bool) {
	place := root // of what the SDK knows; eventn_ctx in the compatibility format
	if isYes(root.take("compat")) || root.inner(memberContext) != nil {
		if place = root.ensure(memberContext); place == nil {
			place = root
		}
	}
	if stamped = root.get("utc_time") == nil && place.get("utc_time") == nil; stamped {
		place.put("utc_time", textNode(received.UTC().Format(event.TimestampLayout)))
	}
	if referer := ctx.Referer(); len(referer) > 0 {
		page, err := url.Parse(string(referer))
		if err == nil && page.Host != "" {
			place.setIfAbsent("url", page.String())
			place.setIfAbsent("doc_host", page.Hostname())
			place.setIfAbsent("doc_path", page.Path)
			place.setIfAbsent("doc_search", page.RawQuery)
		}
	}

	addr := clientAddr(ctx, s.config().TrustedProxies)
	if own := root.get(memberSourceIP); own != nil && own.text() != "" {
		addr = parseHop([]byte(own.text()))
	}
	known := string(ctx.Request.Header.Cookie(visitorCookie))
	if s.at(s.policiesOf(ctx).cookie, addr) != keep {
		if known != "" {
			return cookieGone, stamped
		}
		return "", stamped
	}
	user := root.inner(memberUser) // that which counts, see event.User
	if user == nil && root.get(memberUser) == nil {
		user = place.ensure(memberUser)
	}
	if user == nil || user.get(memberAnonymousID) != nil {
		return "", stamped
	}
	if isVisitorID(known) {
		user.setIfAbsent(memberAnonymousID, known)
		return "", stamped
	}
	id := b.visitorID()
	user.setIfAbsent(memberAnonymousID, id)
	return visitorCookie + "=" + id + cookieAttributes, stamped
}

// isYes says whether a parameter switches something on.
func isYes(n *node) bool {
	if n == nil {
		return false
	}
	text := n.text()
	return text != "" && text != "false" && text != "0" && text != "null"
}

// isVisitorID says whether a cookie that came back can be an id: text that prints.
func isVisitorID(id string) bool {
	return id != "" && len(id) <= maxCookieBytes && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// visitorID makes an id as Jitsu's are: ten letters and digits, of 50 random bits.
func (b *batch) visitorID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	var id [10]byte
	bits := b.random.Uint64()
	for i := range id {
		id[i] = letters[bits&31]
		bits >>= 5
	}
	return string(id[:])
}

// pixelElement makes root b's only element. Its time is the router's unless the event had one: then a copy of it that comes later is a copy.
func (b *batch) pixelElement(root *object, stamped bool, lim limits) *refusal {
	b.merged = root.append(b.merged[:0])
	if len(b.merged) > lim.event {
		return refuseEventSize(fmt.Sprintf("Event size %d exceeds limit: %d", len(b.merged), lim.event), "")
	}
	b.scanner.data = b.merged
	b.elements = append(b.elements, element{})
	e := &b.elements[0]
	if _, err := b.scanner.event(0, 1, e); err != nil {
		return scanError(b.merged, err)
	}
	if stamped {
		e.timed, e.ctxTimed = false, false
	}
	return nil
}
