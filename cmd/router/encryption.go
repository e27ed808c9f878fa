package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
	"eventrouter/pkg/log"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"
)

// keyName is how people are shown a key: by its id, or that there is none.
func keyName(id seal.KeyID) string {
	if id == (seal.KeyID{}) {
		return "none"
	}
	return id.String()
}

// encryption has what is on the disk of a running router sealed as the configuration says, and tells when all of it is.
type encryption struct {
	srv   *service
	inUse *prometheus.Desc

	rolled bool // run's: each log has a segment of its own for what is sealed as it should be
}

func newEncryption(srv *service) *encryption {
	return &encryption{srv: srv, inUse: prometheus.NewDesc("router_encryption_key_in_use", "1 for each key with which something on the disk may be encrypted.", []string{"key"}, nil)}
}

// Describe implements prometheus.Collector.
func (e *encryption) Describe(ch chan<- *prometheus.Desc) { ch <- e.inUse }

// Collect implements prometheus.Collector.
func (e *encryption) Collect(ch chan<- prometheus.Metric) {
	for _, id := range e.keys() {
		ch <- prometheus.MustNewConstMetric(e.inUse, prometheus.GaugeValue, 1, keyName(id))
	}
}

// keys are those with which something in the store or the logs may be sealed.
func (e *encryption) keys() []seal.KeyID {
	keys := slices.Clone(e.srv.store.KeysLeft())
	for _, l := range []*log.Log{e.srv.log, e.srv.bulkLog} {
		for id := range l.SealedWith() {
			if !slices.Contains(keys, id) {
				keys = append(keys, id)
			}
		}
	}
	return keys
}

// sealPause is how often it is looked at whether the logs have got rid of what is sealed with an old key: they do once it is sorted.
const sealPause = 2 * time.Second

// run works until everything is sealed as it should be, or ctx ends. What goes wrong is told and keeps nobody from using the old key on.
func (e *encryption) run(ctx context.Context) error {
	srv := e.srv
	server := srv.config().Server
	want, seals := server.Encryption.Keys.Sealing()
	keys := e.keys()
	if done := len(keys) == 0 || len(keys) == 1 && keys[0] == want; done && !seals {
		return nil // nothing is encrypted
	}
	for _, a := range srv.config().Elsewhere {
		if err := config.Reseal(server, a); err != nil {
			srv.logger.Error("the kept version of what stands elsewhere can not be encrypted anew", "part", a.Part, "error", err.Error())
		}
	}
	e.warnOfFiles(seals)
	if err := srv.store.Reseal(ctx); err != nil {
		if ctx.Err() == nil && !errors.Is(err, store.ErrFailed) && !errors.Is(err, store.ErrClosed) {
			srv.logger.Error("the store can not be encrypted anew: keep the old keys in the configuration", "error", err.Error())
		}
		return nil
	}
	for logged := false; ; logged = true {
		left, err := e.clearLogs(want)
		switch {
		case err != nil && ctx.Err() == nil:
			srv.logger.Warn("the logs hold events under another key still", "error", err.Error())
		case len(left) == 0:
			if len(server.Encryption.Keys.IDs()) > 1 || !seals {
				srv.logger.Info("nothing on the disk needs an old key any more: they may be taken out of server.encryption.old_keys", "key", keyName(want))
			}
			return nil
		case !logged:
			srv.logger.Info("the logs hold events under another key until these are sorted", "keys", strings.Join(left, ", "))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(sealPause):
		}
	}
}

// clearLogs deletes what is sorted and sealed with other keys than the one that is wanted, and returns those with which something is left.
func (e *encryption) clearLogs(want seal.KeyID) (left []string, err error) {
	srv := e.srv
	srv.store.AskCheckpoint()
	live, bulk := srv.store.FilePositions()
	for _, l := range []struct {
		log    *log.Log
		sorted log.Offset // what came of the records below stands in the store's file
	}{{srv.log, log.Offset(live)}, {srv.bulkLog, log.Offset(bulk)}} {
		others := func() (ids []string) {
			for id := range l.log.SealedWith() {
				if id != want {
					ids = append(ids, keyName(id))
				}
			}
			return ids
		}
		if len(others()) == 0 {
			continue
		}
		if !e.rolled {
			if _, err := l.log.Roll(); err != nil { // the last segment is never deleted
				return nil, err
			}
		}
		if err := l.log.Erase(l.sorted); err != nil {
			return nil, err
		}
		left = append(left, others()...)
	}
	e.rolled = true
	return left, nil
}

// warnOfFiles tells of files that were kept aside before there was a key: they are for people to look at, and not changed.
func (e *encryption) warnOfFiles(seals bool) {
	if !seals {
		return
	}
	files, err := keptAside(e.srv.config().Server.DataDir)
	if err != nil || len(files) == 0 {
		return
	}
	e.srv.logger.Warn("files that were kept aside because of damage may hold events that are not encrypted: look at them and delete them", "files", strings.Join(files, ", "))
}

// keptAside are the files of a data directory that hold what was cut off or replaced because of damage.
func keptAside(dataDir string) (files []string, err error) {
	for _, pattern := range []string{"log/*/*.torn-*", "log/*/*.damaged-*", "damaged/*"} {
		found, err := filepath.Glob(filepath.Join(dataDir, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

// checkKeys says which keys a data directory needs, and of which apps of before it has connections, for router check. It says nothing where no router has run.
func checkKeys(s streams, cfg *config.Config) error {
	server := cfg.Server
	if _, err := os.Stat(filepath.Join(server.DataDir, "router.db")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ring := server.Encryption.Keys
	st, err := store.OpenReadOnly(server.DataDir, ring)
	switch {
	case errors.Is(err, store.ErrKey):
		return usageError{fmt.Errorf("server.encryption: %s: %w", server.DataDir, err)}
	case err != nil: // an older format, another user's: not what is asked for here
		fmt.Fprintf(s.out, "warning: server.encryption: %s can not be looked at: %v\n", server.DataDir, err)
		return nil
	}
	defer st.Close()
	for _, o := range connections.OrphansIn(st, cfg.Apps) {
		fmt.Fprintf(s.out, "warning: apps: %s\n", o)
	}
	needed := st.KeysLeft()
	for _, dir := range []string{logDir(server.DataDir), bulkLogDir(server.DataDir)} {
		keys, err := log.KeysOf(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		needed = append(needed, keys...)
	}
	for _, id := range needed {
		if id != (seal.KeyID{}) && !ring.Has(id) {
			return usageError{fmt.Errorf("server.encryption: %s: the log is %w", server.DataDir, seal.MissingKey(id))}
		}
	}
	want, seals := ring.Sealing()
	if seals && slices.ContainsFunc(needed, func(id seal.KeyID) bool { return id != want }) {
		fmt.Fprintf(s.out, "encryption: key %s seals; not everything is sealed with it yet\n", want)
	} else if seals {
		fmt.Fprintf(s.out, "encryption: everything is sealed with key %s\n", want)
	}
	for _, id := range ring.IDs() {
		if seals && id == want {
			continue
		}
		if slices.Contains(needed, id) {
			fmt.Fprintf(s.out, "encryption: old key %s is still needed\n", id)
		} else {
			fmt.Fprintf(s.out, "encryption: old key %s is not needed any more\n", id)
		}
	}
	return nil
}
