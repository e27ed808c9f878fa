package ingest

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"
)

// Mount is a part of the server that another package answers: all paths below Prefix, with any method.
type Mount struct {
	// Prefix is what the paths begin with, such as /connect/.
	Prefix string
	// MaxBody is the most bytes of a request's body; larger ones are refused before Handler is called.
	MaxBody int
	// Admit, where there is one, is asked before the body is read whether it is to be, and how long it may be, in place of MaxBody. Where it says no it has answered. What
	// it sets as user values Handler finds.
	Admit func(ctx *fasthttp.RequestCtx) (maxBody int, ok bool)
	// Unread, where there is one, is told when a request that was admitted was refused since its body did not come as it may: with which status.
	Unread func(ctx *fasthttp.RequestCtx, status int)
	// Handler answers. It finds the body read, which is its own. A panic of it is answered with 500, as any other.
	Handler fasthttp.RequestHandler
}

// mounted answers with one of Options.Mounts; false: there is none for the path.
func (s *Server) mounted(ctx *fasthttp.RequestCtx) bool {
	path := string(ctx.Path())
	for _, m := range s.opts.Mounts {
		if !strings.HasPrefix(path, m.Prefix) && path != strings.TrimSuffix(m.Prefix, "/") {
			continue
		}
		most := m.MaxBody
		if m.Admit != nil {
			var ok bool
			if most, ok = m.Admit(ctx); !ok {
				finishBody(ctx)
				s.lingering.linger(ctx)
				return true
			}
		}
		body, r := s.bodyOf(ctx, most)
		if r != nil {
			if r.reason == reasonSize {
				r.detail = "" // is about events
			}
			s.refuse(ctx, nil, r)
			if m.Unread != nil {
				m.Unread(ctx, r.status)
			}
			return true
		}
		ctx.Request.SetBodyRaw(body)
		m.Handler(ctx)
		return true
	}
	return false
}

// bodyOf reads a body. What is read counts among large requests while it comes: how long a handler holds it is that one's to bound, and events are not refused for it.
func (s *Server) bodyOf(ctx *fasthttp.RequestCtx, most int) ([]byte, *refusal) {
	b := acquireBatch()
	defer b.release()
	b.heavy = s.heavy
	body, r := b.read(ctx, most, s.pace())
	if cap(b.body) > maxKeptBytes { // b would not keep it anyway
		b.body = nil
		return body, r
	}
	return bytes.Clone(body), r
}

// ServerKey returns the id of the API key whose server secret a request carries, and the account that it speaks for, and for no other; "": for any. ok is false for a request
// without a server secret, which is not refused. A handler of a [Mount] may call it.
func (s *Server) ServerKey(ctx *fasthttp.RequestCtx) (id, account string, ok bool) {
	b := acquireBatch()
	defer b.release()
	src, r := s.sources.Load().authenticate(b.token(ctx), serverSecret)
	if r != nil {
		return "", "", false
	}
	if src.old {
		s.oldSecret(src.key)
	}
	return src.key.id, src.key.account, true
}

// ServerOrAdmin says whether a request carries a server secret, or may see admin pages; otherwise it refuses the request. account is the only one that its API key speaks for;
// "": it may do with all. A secret that is none is refused on this machine, too: else a wrong one shows only where the router is in earnest. A handler of a [Mount] may call it.
func (s *Server) ServerOrAdmin(ctx *fasthttp.RequestCtx) (account string, ok bool) {
	if _, account, ok = s.ServerKey(ctx); ok {
		return account, true
	}
	b := acquireBatch()
	defer b.release()
	token := b.token(ctx)
	if s.mayAdminister(ctx) && (len(token) == 0 || s.config().AdminToken != "") {
		return "", true
	}
	_, r := s.sources.Load().authenticate(token, serverSecret)
	s.refuse(ctx, nil, r)
	return "", false
}
