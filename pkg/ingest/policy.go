package ingest

import (
	"bytes"
	"crypto/md5" // Jitsu's hash: it hides nothing, whoever knows an address can make it
	"encoding/hex"
	"net/netip"
	"unsafe"

	"eventrouter/pkg/event"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"
)

// policy says what of a visitor may be stored, as the client asks for it with each request.
type policy uint8

const (
	keep   policy = iota // as it came
	strict               // a coarse address; no id that was kept in a cookie
	comply               // strict where the law asks for consent, else keep
	remove               // no address at all: Jitsu v2's word
)

// policies of a request.
type policies struct{ ip, cookie policy }

var (
	argIPPolicy     = []byte("ip_policy")
	argCookiePolicy = []byte("cookie_policy")
)

// policiesOf reads the policies of a request: Jitsu's parameters, or Jitsu v2's header.
func (s *Server) policiesOf(ctx *fasthttp.RequestCtx) policies {
	args := ctx.QueryArgs()
	ip := args.PeekBytes(argIPPolicy)
	if len(ip) == 0 {
		ip = ctx.Request.Header.Peek("X-IP-Policy")
	}
	return policies{ip: s.policyNamed(ip), cookie: s.policyNamed(args.PeekBytes(argCookiePolicy))}
}

// policyNamed is the policy of a name. One that nobody knows keeps all, as in Jitsu; that it came is logged once.
func (s *Server) policyNamed(name []byte) policy {
	switch {
	case len(name) == 0 || bytes.EqualFold(name, []byte("keep")):
		return keep
	case bytes.EqualFold(name, []byte("strict")) || bytes.EqualFold(name, []byte("stripLastOctet")):
		return strict
	case bytes.EqualFold(name, []byte("comply")):
		return comply
	case bytes.EqualFold(name, []byte("remove")):
		return remove
	}
	s.metrics.unknownPolicies.Inc()
	if s.unknownPolicy.CompareAndSwap(false, true) {
		s.opts.Logger.Warn("a client sends an unknown cookie_policy or ip_policy: it is taken for keep; the policies are keep, strict and comply")
	}
	return keep
}

// at is what p comes to for an address: comply is strict in the European Economic Area and the United Kingdom, and where nobody knows where the address is.
func (s *Server) at(p policy, addr netip.Addr) policy {
	if p != comply {
		return p
	}
	if s.opts.Place == nil || !addr.IsValid() {
		return strict
	}
	country, union, known := s.opts.Place(addr)
	if !known || union {
		return strict
	}
	switch country {
	case "GB", "UK", "IS", "LI", "NO": // the Union's law holds in the last three, too
		return strict
	}
	return keep
}

// visitor is what a request tells of who sent it, with the policies to apply to its events.
type visitor struct {
	front     *Server
	addr      netip.Addr // the zero Addr: unknown
	userAgent []byte     // as it came
	server    bool       // it is a server that speaks, for visitors of its own
	policies  policies
}

// strictIPv6Bits is what a strict policy keeps of an IPv6 address: the network of a provider's customer is a /48 to /56, so less would leave
// a household, as the last octet of an IPv4 address does not.
const strictIPv6Bits = 48

// coarse is addr without what tells one household from its neighbours: the last octet of an IPv4 address is 1 as in Jitsu, the last ten bytes of an IPv6
// address are 0.
func coarse(addr netip.Addr) netip.Addr {
	if addr = addr.WithZone("").Unmap(); addr.Is4() {
		a := addr.As4()
		a[3] = 1
		return netip.AddrFrom4(a)
	}
	p, _ := addr.Prefix(strictIPv6Bits)
	return p.Addr()
}

// settle puts what is stored of the visitor into the envelope of an event, and takes out of its JSON what the policies forbid. told is the raw value of the
// event's own source_ip, original the member that keeps another protocol's message; "" for none. Most events have no address of their own and ask for
// nothing: then all is as it was for the one before.
func (v *visitor) settle(b *batch, ev *event.Event, told []byte, original string) {
	s := v.front
	if len(told) == 0 && v.policies == (policies{}) {
		if b.settled {
			return
		}
		b.settled = true
		v.identify(b, ev, nil, v.addr, keep)
		return
	}
	b.settled = false
	// An event that a client sends for somebody tells that person's address: it decides, and is as personal as that of the connection.
	own := ownAddress(told)
	addr := v.addr
	if len(own) > 0 {
		addr = parseHop(own)
	}
	ip, cookie := s.at(v.policies.ip, addr), s.at(v.policies.cookie, addr)
	v.identify(b, ev, own, addr, ip)
	b.noCookie = b.noCookie || cookie != keep
	ev.SourceIP = ""
	if v.addr.IsValid() && ip != remove {
		kept := v.addr
		if ip == strict {
			kept = coarse(kept)
		}
		b.ip = kept.AppendTo(b.ip[:0])
		ev.SourceIP = view(b.ip)
	}
	if ip == keep && cookie == keep {
		return
	}
	r := restriction{ip: ip, cookie: cookie, original: original}
	if !v.server || len(own) > 0 {
		// The hash of a server's address is the same for all visitors: as an id it would make one person of them.
		r.hash = ev.AnonymousHash
	}
	b.restricted = r.append(b.restricted[:0], ev.JSON)
	ev.JSON = b.restricted
}

// identify puts the visitor's hash into the envelope, as Jitsu makes it. own is the address that the event itself tells, addr that or the connection's. Who
// uploads events is no visitor.
//
// Where ip forbids to store the whole address the hash is made of what is stored. Jitsu makes it of the whole address there too: who has the rest
// of the address finds the last octet in 256 attempts.
func (v *visitor) identify(b *batch, ev *event.Event, own []byte, addr netip.Addr, ip policy) {
	ev.AnonymousHash = ""
	if !v.front.config().AnonymousHash || ev.Class != event.Live || ip == remove {
		return
	}
	switch {
	case ip == keep && len(own) > 0:
		b.whole = append(b.whole[:0], own...)
	case !addr.IsValid():
		return
	case ip == keep:
		b.whole = addr.AppendTo(b.whole[:0])
	default:
		b.whole = coarse(addr).AppendTo(b.whole[:0])
	}
	b.whole = append(b.whole, v.userAgent...)
	sum := md5.Sum(b.whole)
	hex.Encode(b.hash[:], sum[:])
	ev.AnonymousHash = view(b.hash[:])
}

// ownAddress is the text of an event's own source_ip; empty where it has none.
func ownAddress(raw []byte) []byte {
	const longest = 64 // of an IPv6 address with zone and port
	if len(raw) < 3 || len(raw) > longest || raw[0] != '"' {
		return nil
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		return []byte(gjson.ParseBytes(raw).Str)
	}
	return raw[1 : len(raw)-1]
}

// restriction is what policies forbid of one event's JSON.
type restriction struct {
	ip, cookie policy
	hash       string // takes the place of the id that was kept in a cookie; "": nothing does
	original   string // the member that keeps another protocol's message; "": none
}

const (
	memberSourceIP    = "source_ip"
	memberUser        = "user"
	memberContext     = "eventn_ctx"
	memberAnonymousID = "anonymous_id"
)

// append appends an event's JSON, valid, without what is forbidden.
func (r *restriction) append(dst, json []byte) []byte {
	root := gjson.Parse(view(json))
	target := r.target(root)
	return r.object(dst, root, func(dst []byte, k, v gjson.Result) []byte {
		if k.Str != memberContext || !v.IsObject() {
			return r.member(dst, k, v, target == atUser)
		}
		dst = append(append(dst, k.Raw...), ':')
		return r.object(dst, v, func(dst []byte, k, v gjson.Result) []byte {
			return r.member(dst, k, v, target == atContextUser)
		}, target == atContext)
	}, target == atRoot)
}

// hashPlace says which object gets the hash.
type hashPlace uint8

const (
	nowhere       hashPlace = iota
	atUser                  // user
	atContextUser           // eventn_ctx.user
	atContext               // eventn_ctx, as a user of its own
	atRoot                  // the event, as a user of its own
)

// target finds the user that filters and destinations read ([event.Event.User]).
func (r *restriction) target(root gjson.Result) hashPlace {
	user, inner := last(root, memberUser), last(root, memberContext)
	switch {
	case r.cookie == keep || r.hash == "":
		return nowhere
	case user.IsObject():
		return atUser
	case inner.IsObject() && last(inner, memberUser).IsObject():
		return atContextUser
	case inner.IsObject() && !last(inner, memberUser).Exists():
		return atContext
	case !user.Exists():
		return atRoot
	}
	return nowhere // somebody calls other things a user
}

// last is the member of that name which counts: the last one.
func last(object gjson.Result, name string) (found gjson.Result) {
	object.ForEach(func(k, v gjson.Result) bool {
		if k.Str == name {
			found = v
		}
		return true
	})
	return found
}

// object appends an object whose members each appends, or leaves out by appending nothing.
func (r *restriction) object(dst []byte, object gjson.Result, each func(dst []byte, k, v gjson.Result) []byte, addUser bool) []byte {
	dst = append(dst, '{')
	start := len(dst)
	object.ForEach(func(k, v gjson.Result) bool {
		at := len(dst)
		if at > start {
			dst = append(dst, ',')
		}
		before := len(dst)
		if dst = each(dst, k, v); len(dst) == before {
			dst = dst[:at]
		}
		return true
	})
	if addUser {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(dst, `"user":{"anonymous_id":`...)
		dst = append(event.AppendString(dst, r.hash), '}')
	}
	return append(dst, '}')
}

// member appends a member of the event or of its context.
func (r *restriction) member(dst []byte, k, v gjson.Result, hashed bool) []byte {
	switch {
	case k.Str == memberSourceIP && r.ip != keep:
		addr := netip.Addr{}
		if own := ownAddress([]byte(v.Raw)); len(own) > 0 {
			addr = parseHop(own)
		}
		if r.ip == remove || !addr.IsValid() {
			return dst
		}
		dst = append(append(dst, k.Raw...), `:"`...)
		return append(coarse(addr).AppendTo(dst), '"')
	case k.Str == memberUser && r.cookie != keep && v.IsObject():
		dst = append(append(dst, k.Raw...), ':')
		return r.user(dst, v, hashed)
	case r.original != "" && v.Type == gjson.JSON:
		dst = append(append(dst, k.Raw...), ':')
		return r.message(dst, v, k.Str)
	case r.original != "" && r.isID(k.Str):
		return dst
	}
	dst = append(append(dst, k.Raw...), ':')
	return append(dst, v.Raw...)
}

// message appends a value of another protocol's message, or of what was made of it, without the ids and addresses that such messages carry at any depth.
func (r *restriction) message(dst []byte, v gjson.Result, name string) []byte {
	s := scanner{data: unsafe.Slice(unsafe.StringData(v.Raw), len(v.Raw))} // only read
	dst, _ = r.appendMessage(dst, &s, 0, name)
	return dst
}

// appendMessage appends the value at i, which is valid, and returns the offset after it. It reads each byte once, however deep the value is nested: gjson's
// loops go over all that is inside at every level.
func (r *restriction) appendMessage(dst []byte, s *scanner, i int, name string) ([]byte, int) {
	opening := s.data[i]
	if opening != '{' && opening != '[' {
		end, _ := s.value(i, 0)
		return append(dst, s.data[i:end]...), end
	}
	dst = append(dst, opening)
	for i = s.space(i + 1); s.data[i] != '}' && s.data[i] != ']'; {
		if s.data[i] == ',' {
			i = s.space(i + 1)
		}
		at, inner := i, ""
		if opening == '{' {
			var raw []byte
			raw, i, _ = s.rawName(i)
			if inner = view(raw); r.isID(inner) || r.ip != keep && inner == "ip" && name == "context" {
				end, _ := s.value(i, 0)
				i = s.space(end)
				continue
			}
		}
		if dst[len(dst)-1] != opening {
			dst = append(dst, ',')
		}
		dst = append(dst, s.data[at:i]...) // a name and its colon
		dst, i = r.appendMessage(dst, s, i, inner)
		i = s.space(i)
	}
	return append(dst, opening+2), i + 1 // the closing bracket is two behind the opening one
}

// isID says whether a message's member of that name is the visitor's id that was kept in a cookie, and must not be stored.
func (r *restriction) isID(name string) bool {
	return r.cookie != keep && (name == "anonymousId" || name == memberAnonymousID || name == "ajs_anonymous_id")
}

// user appends a user without its anonymous id, or with the hash as one.
func (r *restriction) user(dst []byte, user gjson.Result, hashed bool) []byte {
	dst = append(dst, '{')
	start := len(dst)
	user.ForEach(func(k, v gjson.Result) bool {
		if k.Str == memberAnonymousID || r.original != "" && r.isID(k.Str) {
			return true
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(append(dst, k.Raw...), ':')
		dst = append(dst, v.Raw...)
		return true
	})
	if hashed {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(dst, `"anonymous_id":`...)
		dst = event.AppendString(dst, r.hash)
	}
	return append(dst, '}')
}
