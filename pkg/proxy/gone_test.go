package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestCallersThatGoBeforeTheAnswer: a call that reads ends with its caller, and one whose answer comes; requests behind it on a connection lose nothing by it.
func TestCallersThatGoBeforeTheAnswer(t *testing.T) {
	begun, ended, goOn := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w := newWire(t, func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // until then net/http does not look whether its client is there
		if strings.HasSuffix(r.URL.Path, "/at-once") {
			return
		}
		begun <- struct{}{}
		if strings.HasSuffix(r.URL.Path, "/begun") {
			rw.(http.Flusher).Flush()
		}
		select {
		case <-r.Context().Done():
		case <-goOn:
			rw.WriteHeader(http.StatusCreated)
		}
		ended <- struct{}{}
	})
	const path = "/api/v1/proxy/crm/crm"
	line := func(want string) {
		t.Helper()
		pattern := regexp.MustCompile(want)
		for until := time.Now().Add(10 * time.Second); !pattern.MatchString(w.log.String()); time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("the log has no %s:\n%s", want, w.log)
			}
		}
	}
	f := func(request, want string) {
		t.Helper()
		conn, br := w.dial()
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		<-begun
		if strings.Contains(request, "/begun") {
			if _, err := http.ReadResponse(br, nil); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close()
		<-ended
		line(want)
	}
	post := func(path string) string { return w.call("POST "+path, "Content-Length: 2") + "{}" }
	f(w.call("GET "+path+"/read"), `"path":"/crm/read","status":499,.*"refused":"gone",.*"caller_gone":true`)
	f(w.call("HEAD "+path+"/head"), `"path":"/crm/head","status":499,.*"refused":"gone"`)
	f(post(path+"/search"), `"path":"/crm/search","status":499,.*"refused":"gone"`)
	f(post(path+"/batch/read"), `"path":"/crm/batch/read","status":499,.*"refused":"gone"`)
	f(w.call("GET "+path+"/begun"), `"path":"/crm/begun","status":200,"bytes":0,.*"error":"the caller did not take all of the answer"`)
	f(post(path+"/begun"), `"path":"/crm/begun","status":200,"bytes":0,.*"error":"the caller did not take all of the answer"`)

	// A connection that is used again has lost nothing to the watch, also where the next request is there before the answer.
	conn, br := w.dial()
	for i := range 3 {
		if _, err := io.WriteString(conn, strings.Repeat(post(path+"/at-once"), 1+i)); err != nil {
			t.Fatal(err)
		}
		for n := range 1 + i {
			res, err := http.ReadResponse(br, nil)
			if err != nil || res.StatusCode != 200 {
				t.Fatalf("request %d of %d at once: %v, %v", n, 1+i, res, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
		}
	}
	if _, err := io.WriteString(conn, w.call("GET "+path+"/slow")); err != nil {
		t.Fatal(err)
	}
	<-begun
	for i := range 3 { // while the first is under way
		fmt.Fprint(conn, w.call("GET "+path+"/at-once", fmt.Sprint("X-Number: ", i)))
	}
	goOn <- struct{}{}
	for i, want := range []int{201, 200, 200, 200} {
		if i == 0 {
			<-ended
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != want {
			t.Fatalf("answer %d: %v, %v, want %d", i, res, err, want)
		}
		_, _ = io.Copy(io.Discard, res.Body)
	}
}

// goneConn is a connection of a caller who goes when the test says so.
type goneConn struct {
	net.Conn
	watched func(gone func())
}

func (c *goneConn) Watch(gone func()) (stop func()) {
	c.watched(gone)
	return func() {}
}

// TestWritesOfCallersThatGo: a write that HubSpot has goes on without its caller, and the log says what came of it; one that it has not is not made.
func TestWritesOfCallersThatGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		var leaves func()
		r.watched = func(gone func()) { leaves = gone }
		f := func(fault sandbox.Fault, contacts int, want string) {
			t.Helper()
			fault.Endpoint = "contacts"
			clear := r.box.Hub("1001").Inject(fault)
			defer clear()
			r.as("a1", "POST", contactsPath, newContact(fmt.Sprintf("a%d@one.co", contacts)))
			if got := r.logged(); !strings.HasSuffix(strings.TrimSpace(got), want) {
				t.Errorf("%+v: got the log %s, want its last line to end with %s", fault, got, want)
			}
			if n := len(r.box.Hub("1001").Contacts()); n != contacts {
				t.Errorf("%+v: the hub holds %d contacts, want %d", fault, n, contacts)
			}
		}
		r.intercept(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
			leaves()
			time.Sleep(20 * time.Second)
			return next.RoundTrip(req)
		})
		f(sandbox.Fault{Times: 1}, 1, `"status":201,"bytes":0,"ms":20000,"error":"the caller had gone when the answer came","caller_gone":true}`)
		f(sandbox.Fault{Delay: time.Hour}, 1, `"status":504,"bytes":0,"ms":30000,"refused":"timeout","error":"HubSpot did not answer in time","caller_gone":true}`)
		f(sandbox.Fault{Drop: true}, 1, `"status":502,"bytes":0,"ms":20000,"refused":"remote","error":"HubSpot does not answer","caller_gone":true}`)
		f(sandbox.Fault{Status: 401}, 1, `"status":499,"bytes":0,"ms":20000,"refused":"gone","error":"The caller has gone","caller_gone":true}`)
		calls := len(r.sent)
		r.watched = func(gone func()) { gone() }
		f(sandbox.Fault{Times: 1}, 1, `"status":499,"bytes":0,"ms":0,"refused":"gone","error":"The caller has gone","caller_gone":true}`)
		if n := len(r.sent) - calls; n != 0 {
			t.Errorf("%d calls were made for a caller that had gone before", n)
		}
		r.watched = nil
		r.intercept(nil)
		if a := r.as("a1", "GET", contactsPath, ""); a.status != 200 || r.proxy.all.calls != 0 {
			t.Errorf("after all that: got %d %s, and %d places are taken", a.status, a.body, r.proxy.all.calls)
		}
	})
}
