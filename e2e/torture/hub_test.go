package torture

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// hub is HubSpot, in the process of the test. It writes down every call.
type hub struct {
	*sandbox.Sandbox
	address string
	path    string // of the file of calls

	mu   sync.Mutex // guards file
	file *os.File
}

// call is a line of the file of calls.
type call struct {
	At     time.Time `json:"at"` // of its arrival
	Done   time.Time `json:"done"`
	Path   string    `json:"path"`
	Status int       `json:"status"` // 0: no answer
	Body   string    `json:"body"`
	Answer string    `json:"answer,omitempty"`
}

func newHub(t *testing.T, dir string) *hub {
	t.Helper()
	text := func(name string) sandbox.Property {
		return sandbox.Property{Name: name, Label: name, Type: "string", FieldType: "text", GroupName: "contactinformation"}
	}
	h := &hub{
		Sandbox: sandbox.New(sandbox.Options{HubID: hubID, Token: accessToken, Properties: []sandbox.Property{text("seq"), text("plan"), text("tier")}}),
		path:    filepath.Join(dir, "calls.jsonl"),
	}
	var err error
	if h.file, err = os.OpenFile(h.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.file.Close() })
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	h.address = strings.TrimPrefix(srv.URL, "http://")
	return h
}

// ServeHTTP writes the call down, whatever becomes of it.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := call{At: time.Now(), Path: r.URL.Path}
	body, err := io.ReadAll(r.Body)
	c.Body = string(body)
	told := &answer{ResponseWriter: w}
	defer func() {
		c.Done, c.Status = time.Now(), told.status
		if told.status >= 300 || told.status == http.StatusMultiStatus {
			c.Answer = told.body.String()
		}
		line, _ := json.Marshal(c)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.file.Write(append(line, '\n'))
	}()
	if err != nil {
		panic(http.ErrAbortHandler) // the call was cut on its way
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	h.Sandbox.ServeHTTP(told, r)
}

// answer notes what is answered.
type answer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	a.body.Write(b[:min(len(b), max(0, 4000-a.body.Len()))])
	return a.ResponseWriter.Write(b)
}

// patch changes options of the account.
func (h *hub) patch(t *testing.T, options string) {
	t.Helper()
	h.control(t, http.MethodPatch, "/_sandbox/options", options)
}

// heal ends all faults.
func (h *hub) heal(t *testing.T) {
	t.Helper()
	h.patch(t, `{"bad_events":"refuse_batch","strict_uuid":false}`)
	h.control(t, http.MethodDelete, "/_sandbox/faults", "")
}

func (h *hub) control(t *testing.T, method, path, body string) {
	t.Helper()
	res := httptest.NewRecorder()
	h.Sandbox.ServeHTTP(res, httptest.NewRequest(method, path, strings.NewReader(body)))
	if res.Code >= 300 {
		t.Errorf("%s %s %s: %d %s", method, path, body, res.Code, res.Body)
	}
}
