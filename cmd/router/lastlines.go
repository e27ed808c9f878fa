package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// lastLines keeps the last warnings and errors of the log, for who asks how the router is.
type lastLines struct {
	mu    sync.Mutex // guards the field below
	lines []logLine  // oldest first
}

// logLine is a line of the log.
type logLine struct {
	At    time.Time `json:"at"`
	Level string    `json:"level"`
	Text  string    `json:"text"`
}

const (
	mostLastLines  = 20
	lastLineLength = 1000 // bytes
)

func (l *lastLines) add(line logLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == mostLastLines {
		l.lines = slices.Delete(l.lines, 0, 1)
	}
	l.lines = append(l.lines, line)
}

// newestFirst returns a copy.
func (l *lastLines) newestFirst() []logLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := append([]logLine{}, l.lines...)
	slices.Reverse(lines)
	return lines
}

// handler returns a handler that keeps what it passes on.
func (l *lastLines) handler(next slog.Handler) slog.Handler {
	return &keepingHandler{next: next, kept: l}
}

type keepingHandler struct {
	next  slog.Handler
	kept  *lastLines
	group string // with a point behind it
	attrs string // " name=value" of each
}

// Enabled implements [slog.Handler].
func (h *keepingHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || h.next.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h *keepingHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var text strings.Builder
		text.WriteString(r.Message)
		text.WriteString(h.attrs)
		r.Attrs(func(a slog.Attr) bool {
			if a.Key != "stack" {
				writeAttr(&text, h.group, a)
			}
			return true
		})
		h.kept.add(logLine{r.Time.UTC(), strings.ToLower(r.Level.String()), strings.ToValidUTF8(text.String()[:min(text.Len(), lastLineLength)], "")})
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

func writeAttr(text *strings.Builder, group string, a slog.Attr) {
	if v := a.Value.Resolve(); v.Kind() == slog.KindGroup {
		for _, member := range v.Group() {
			writeAttr(text, group+a.Key+".", member)
		}
	} else if s := v.String(); s != "" {
		fmt.Fprintf(text, " %s%s=%s", group, a.Key, s)
	}
}

// WithAttrs implements [slog.Handler].
func (h *keepingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var text strings.Builder
	for _, a := range attrs {
		writeAttr(&text, h.group, a)
	}
	return &keepingHandler{h.next.WithAttrs(attrs), h.kept, h.group, h.attrs + text.String()}
}

// WithGroup implements [slog.Handler].
func (h *keepingHandler) WithGroup(name string) slog.Handler {
	return &keepingHandler{h.next.WithGroup(name), h.kept, h.group + name + ".", h.attrs}
}
