package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"eventrouter/pkg/config"
)

// fileInterval is how often the configuration file is looked at. It is read each time: a time of change says little where files are swapped by links
// or rewritten within a second, and a configuration is small.
const fileInterval = time.Second

// held is what the configuration file and the transform files that it names hold.
type held struct {
	data    []byte
	scripts []config.Script
}

func (h held) same(other held) bool {
	return bytes.Equal(h.data, other.data) && slices.EqualFunc(h.scripts, other.scripts, func(a, b config.Script) bool {
		return a.Path == b.Path && bytes.Equal(a.Data, b.Data) && (a.Data == nil) == (b.Data == nil)
	})
}

// note remembers what was read. Nil scripts: what was read was no configuration, and those named before are looked at further.
func (r *reloader) note(data []byte, scripts []config.Script) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if scripts == nil {
		scripts = reread(r.seen.scripts)
	}
	r.seen = held{data, scripts}
}

// reread reads transform files as they are now.
func reread(scripts []config.Script) []config.Script {
	now := make([]config.Script, len(scripts))
	for i, s := range scripts {
		data, err := config.ReadScript(s.Path)
		if err != nil {
			data = nil
		}
		now[i] = config.Script{Path: s.Path, Data: data}
	}
	return now
}

// watchFile reloads when the file, or a transform file that it names, holds something else, and has done so twice in a row: one that is being written is not
// read half.
func (r *reloader) watchFile(ctx context.Context) {
	tick := time.NewTicker(fileInterval)
	defer tick.Stop()
	var before held
	failing := 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		data, err := config.ReadFile(r.path)
		if err != nil {
			// Not at once: an editor or a link that is swapped leaves no file for a moment.
			if failing++; failing == 3 {
				r.srv.logger.Error("the configuration file can not be read: what is in force stays so", "file", r.path, "error", pathless(err))
			}
			continue
		}
		if failing >= 3 {
			r.srv.logger.Info("the configuration file can be read again", "file", r.path)
		}
		failing = 0
		r.mu.Lock()
		seen := r.seen
		r.mu.Unlock()
		now := held{data, reread(seen.scripts)}
		stable := now.same(before)
		before = now
		if stable && !now.same(seen) {
			_, _ = r.reload(ctx, "the file changed") // the log says what became of it
		}
	}
}

// pathless is an error without the file's name, which stands beside it.
func pathless(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Op + ": " + p.Err.Error()
	}
	return err.Error()
}

// watchAddress reloads when something else stands at a part's address.
func (r *reloader) watchAddress(ctx context.Context, part string) {
	const idle = time.Second // how soon a changed interval, or a new address, is noticed
	next := time.Now().Add(r.interval(part))
	for {
		wait := idle
		if every := r.interval(part); every > 0 {
			next = earlier(next, time.Now().Add(every))
			wait = min(idle, max(time.Until(next), time.Millisecond))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if every := r.interval(part); every > 0 && !time.Now().Before(next) {
			if a, ok := r.places.of(part); ok {
				r.poll(ctx, a)
			}
			next = time.Now().Add(every)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (r *reloader) interval(part string) time.Duration {
	if part == config.PartAPIKeys {
		return r.srv.config().Server.APIKeysReload
	}
	return r.srv.config().Server.DestinationsReload
}

// poll looks at an address, and reloads with what is in force otherwise if something else stands there than before. It holds up no other reload
// while it reads.
func (r *reloader) poll(ctx context.Context, a config.Address) {
	began := time.Now()
	body, err := r.elsewhere.Read(ctx, a)
	if err == nil && a.IsFile() {
		// As with the configuration file: one that is being written is not read half.
		select {
		case <-time.After(fileInterval):
		case <-ctx.Done():
			return
		}
		var again []byte
		if again, err = r.elsewhere.Read(ctx, a); err == nil && !bytes.Equal(again, body) {
			return
		}
	}
	at := time.Now()
	if !r.take(ctx) {
		return
	}
	defer func() { <-r.turn }()
	inForce, ok := r.now.versions[a]
	switch {
	case ctx.Err() != nil || !ok: // another address has its part by now
	case inForce.At.After(began) && !inForce.At.After(time.Now()): // a reload has read it meanwhile, and what is in hand may be older
	case err != nil:
		r.troubled(a, trouble{addressUnreachable, []string{err.Error()}})
	case bytes.Equal(body, inForce.Body):
		inForce.At = at
		r.now.versions[a] = inForce
		delete(r.now.troubles, a)
		r.places.set(a, trouble{state: addressOK}, at)
		r.tellTrouble(a, inForce, trouble{}, false)
	default:
		r.changed(ctx, a, config.Version{Body: body, At: at})
	}
}

// troubled notes that what stands at a is not to be used.
func (r *reloader) troubled(a config.Address, t trouble) {
	r.now.troubles[a] = t
	r.places.set(a, t, time.Time{})
	r.tellTrouble(a, r.now.versions[a], t, true)
}

// changed puts another version of what stands at a in force.
func (r *reloader) changed(ctx context.Context, a config.Address, v config.Version) {
	l := loader{path: r.path, data: r.now.data, options: config.Options{ReadScript: r.now.script}, good: r.lastGood, fresh: func(_ context.Context, other config.Address) (config.Version, error) {
		if other == a {
			return v, nil
		}
		return r.now.versions[other], nil // it has a poll of its own
	}}
	next, err := l.load(ctx)
	if err == nil {
		if t, wrong := next.troubles[a]; wrong {
			r.refuse(a, t)
			return
		}
		var result reload
		if result, err = r.apply(next); err == nil {
			for other, t := range r.now.troubles {
				if other != a {
					next.troubles[other] = t
				}
			}
			r.metrics.succeeded(result.Status)
			r.inForce(a.Part+" changed", next, &result)
			return
		}
	}
	t := trouble{state: addressRefused}
	for _, p := range asProblems(err, "") {
		t.lines = append(t.lines, p.String())
	}
	r.refuse(a, t)
}

// refuse counts what is wrong at an address once, however often it is looked at.
func (r *reloader) refuse(a config.Address, t trouble) {
	if before, ok := r.now.troubles[a]; !ok || !slices.Equal(before.lines, t.lines) {
		r.metrics.reloads.WithLabelValues("failed").Inc()
	}
	r.troubled(a, t)
}
