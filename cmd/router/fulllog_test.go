package main

import (
	"errors"
	"log/slog"
	"testing"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
)

// TestFullBulkLog: with no room for bulk events live ones are accepted, and the router is ready.
func TestFullBulkLog(t *testing.T) {
	cfg := bulkConfig(t, t.TempDir())
	cfg.Server.MaxLogBytes, cfg.Server.MinFreeBytes = 1<<20, 1
	srv, err := newService(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.close()
	record := make([]byte, 100<<10)
	for err == nil {
		err = srv.bulkLog.Append(record)
	}
	if !errors.Is(err, log.ErrFull) {
		t.Fatal(err)
	}
	if err := srv.log.Append(record); err != nil {
		t.Errorf("a live event: %v", err)
	}
	if reason, refused := srv.router.Refused("demo", event.Live); refused {
		t.Errorf("live events are refused: %s", reason)
	}
	if detail, ok := srv.ready(); !ok {
		t.Errorf("not ready: %s", detail)
	}
}
