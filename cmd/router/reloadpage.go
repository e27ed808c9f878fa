package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"eventrouter/pkg/config"
)

const (
	reloadPath = "/api/v1/reload"
	// reloadPatience is how long a reload waits for another that runs: most are over at once, and one that waits for an address is not.
	reloadPatience = 2 * time.Second
)

// reloadRefused is the body of an answer that nothing was reloaded: Jitsu's envelope, and all that is wrong.
type reloadRefused struct {
	Message  string          `json:"message"`
	Error    string          `json:"error"` // what to do
	Problems []reloadProblem `json:"problems,omitempty"`
}

type reloadProblem struct {
	File string `json:"file,omitempty"` // or the address
	Line int    `json:"line,omitempty"`
	Path string `json:"path,omitempty"`
	Text string `json:"text"`
}

// reloadPage answers POST /api/v1/reload.
func (srv *service) reloadPage(w http.ResponseWriter, req *http.Request) {
	r := srv.reloader
	// Without an admin token this machine may ask, and with it any page that its browser shows.
	if err := http.NewCrossOriginProtection().Check(req); err != nil {
		srv.writeReload(w, http.StatusForbidden, reloadRefused{Message: err.Error()})
		return
	}
	if r == nil {
		srv.writeReload(w, http.StatusBadRequest, reloadRefused{Message: "This router has no configuration file"})
		return
	}
	soon, cancelWait := context.WithTimeout(context.Background(), reloadPatience)
	defer cancelWait()
	if !r.take(soon) {
		w.Header().Set("Retry-After", "1")
		srv.writeReload(w, http.StatusConflict, reloadRefused{Message: "A reload is running", Error: "ask again when it has ended"})
		return
	}
	defer func() { <-r.turn }()
	// The request's context is fasthttp's own; what is begun is finished also when the client goes.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	result, err := r.reloadNow(ctx, "POST "+reloadPath)
	if err != nil {
		refused := reloadRefused{Message: "The configuration is not reloaded: the one before stays in force", Error: "put right what problems lists, and ask again"}
		var problems config.Problems
		if !errors.As(err, &problems) {
			problems = config.Problems{{Text: err.Error()}}
		}
		for _, p := range problems {
			refused.Problems = append(refused.Problems, reloadProblem{p.Pos.File, p.Pos.Line, p.Path, p.Text})
		}
		srv.writeReload(w, http.StatusBadRequest, refused)
		return
	}
	srv.router.Probe() // who asks for a reload may have put right something else
	srv.writeReload(w, http.StatusOK, result)
}

// writeReload writes an answer without secrets, wherever somebody may have put one.
func (srv *service) writeReload(w http.ResponseWriter, status int, v any) {
	data, err := srv.state.Load().redact.json(v)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"message":"Internal error","error":""}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(json.RawMessage(data), '\n')) // an error means that the client has gone
}
