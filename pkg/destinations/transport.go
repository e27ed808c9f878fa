package destinations

import (
	"net/http"
	"time"
)

// A connection may be dead without anybody saying so, as when something on the way has forgotten it. HTTP/2 sends all calls over one, and goes on using it whatever becomes of them: so
// one on which nothing comes is asked whether it is alive. Calls that wait for an answer meanwhile fail within the sum.
const (
	askAfter  = 10 * time.Second
	askedWait = 5 * time.Second
)

// NewTransport is http.DefaultTransport with so many kept connections to one host, that leaves dead ones behind.
func NewTransport(idlePerHost int) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = idlePerHost
	t.HTTP2 = HTTP2()
	return t
}

// HTTP2 are the settings for it of any transport, as NewTransport has them. They are the caller's to change.
func HTTP2() *http.HTTP2Config {
	return &http.HTTP2Config{SendPingTimeout: askAfter, PingTimeout: askedWait}
}
