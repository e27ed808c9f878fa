package ingest

import (
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
	// Handler answers. It finds the body read, which is not its own when it has returned. A panic of it is answered with 500, as any other.
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
		b := acquireBatch()
		defer b.release()
		b.heavy = s.heavy
		body, r := b.read(ctx, most, s.pace())
		if r != nil {
			if r.reason == reasonSize {
				r.detail = "" // is about events
			}
			s.refuse(ctx, nil, r)
			return true
		}
		ctx.Request.SetBody(body)
		m.Handler(ctx)
		return true
	}
	return false
}

// ServerKey returns the id of the API key whose server secret a request carries, as the routes for servers take it; otherwise it refuses the request, and ok is false. A
// handler of a [Mount] may call it.
func (s *Server) ServerKey(ctx *fasthttp.RequestCtx) (id string, ok bool) {
	b := acquireBatch()
	defer b.release()
	src, r := s.sources.Load().authenticate(b.token(ctx), serverSecret)
	if r != nil {
		s.refuse(ctx, nil, r)
		return "", false
	}
	return src.key.id, true
}

// HasServerKey is ServerKey for routes that take something else, too: it refuses nothing, and ok is false for a request without a server secret.
func (s *Server) HasServerKey(ctx *fasthttp.RequestCtx) (id string, ok bool) {
	b := acquireBatch()
	defer b.release()
	src, r := s.sources.Load().authenticate(b.token(ctx), serverSecret)
	if r != nil {
		return "", false
	}
	if src.old {
		s.oldSecret(src.key)
	}
	return src.key.id, true
}

// ServerOrAdmin says whether a request carries a server secret, or may see admin pages; otherwise it refuses the request. A handler of a [Mount] may call it.
func (s *Server) ServerOrAdmin(ctx *fasthttp.RequestCtx) bool {
	b := acquireBatch()
	defer b.release()
	if _, r := s.sources.Load().authenticate(b.token(ctx), serverSecret); r == nil || s.refuseAdmin(ctx) == nil {
		return true
	} else {
		s.refuse(ctx, nil, r)
		return false
	}
}
