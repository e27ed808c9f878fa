package torture

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/trial"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// proxies stand between clients and the router, and between that and the sandbox.
type proxies struct {
	t   *testing.T
	all []*toxiproxy.Proxy
	api *toxiproxy.ApiServer
}

func newProxies(t *testing.T) *proxies {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics log by themselves
	return &proxies{t: t, api: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())}
}

// add starts a proxy and returns its address.
func (x *proxies) add(name, upstream string) string {
	x.t.Helper()
	p := toxiproxy.NewProxy(x.api, name, trial.FreeAddress(x.t), upstream)
	if err := p.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(p.Stop)
	x.all = append(x.all, p)
	return p.Listen
}

// toxic is something that a connection suffers from.
type toxic struct {
	Kind       string // as toxiproxy calls it; "cut" is a proxy that is not there
	Attributes string // JSON
	Up         bool   // what goes to the server suffers, else what comes back
}

func (x toxic) name() string {
	if x.Up {
		return x.Kind + " up"
	}
	return x.Kind + " down"
}

// plague puts a toxic on a proxy for some time.
func (x *proxies) plague(p *toxiproxy.Proxy, what toxic, hold time.Duration) {
	if what.Kind == "cut" {
		p.Stop()
		time.Sleep(hold)
		if err := p.Start(); err != nil {
			x.t.Errorf("start the proxy %s again: %v", p.Name, err)
		}
		return
	}
	side := "downstream"
	if what.Up {
		side = "upstream"
	}
	text := fmt.Sprintf(`{"name":"it","type":%q,"stream":%q,"toxicity":1,"attributes":%s}`, what.Kind, side, what.Attributes)
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
		x.t.Errorf("toxic %s: %v", text, err)
		return
	}
	time.Sleep(hold)
	if err := p.Toxics.RemoveToxic(context.Background(), "it"); err != nil {
		x.t.Errorf("remove toxic %s: %v", text, err)
	}
}
