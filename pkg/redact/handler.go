package redact

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
)

// Hold has values hidden in log lines until Release: those of events that are in hand, of which a remote or a script may speak.
func (f *Fields) Hold(vs Values) {
	if len(vs) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range vs {
		f.held[v]++
	}
}

// Release undoes a Hold. later says that work with them may go on in the background: they stay hidden until many others were released.
func (f *Fields) Release(vs Values, later bool) {
	if len(vs) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range vs {
		if f.held[v]--; f.held[v] <= 0 {
			delete(f.held, v)
		}
		if !later || f.known[v] {
			continue
		}
		if len(f.recent) < maxRecent {
			f.recent = append(f.recent, v)
		} else {
			delete(f.known, f.recent[f.next])
			f.recent[f.next] = v
			f.next = (f.next + 1) % maxRecent
		}
		f.known[v] = true
	}
}

// inHand are the values that are hidden in the log.
func (f *Fields) inHand() Values {
	if !f.Active() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all := maps.Clone(f.known)
	for v := range f.held {
		all[v] = true
	}
	return newValues(all)
}

// Handler returns a handler that passes lines on to next without values that are in hand.
func (f *Fields) Handler(next slog.Handler) slog.Handler { return &handler{next, f} }

type handler struct {
	next   slog.Handler
	fields *Fields
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	vs := h.fields.inHand()
	if len(vs) == 0 {
		return h.next.Handle(ctx, r)
	}
	clean := slog.NewRecord(r.Time, r.Level, vs.Text(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(vs.attr(a))
		return true
	})
	return h.next.Handle(ctx, clean)
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.next.WithAttrs(attrs), h.fields} // made once, of what the configuration says
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.next.WithGroup(name), h.fields}
}

func (vs Values) attr(a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, vs.Text(v.String()))
	case slog.KindGroup:
		var group []any
		for _, member := range v.Group() {
			group = append(group, vs.attr(member))
		}
		return slog.Group(a.Key, group...)
	case slog.KindAny:
		return slog.String(a.Key, vs.Text(fmt.Sprint(v.Any())))
	default:
		return a
	}
}
