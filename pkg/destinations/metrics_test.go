package destinations

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestStrippedNamesAreBounded is about names that clients choose: any bytes, and any number of them.
func TestStrippedNamesAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	m.Stripped("crm", "a\xff", "unknown")
	for range 2 {
		for i := range 2 * maxPropertyLabels {
			m.Stripped("crm", fmt.Sprint("p", i), "unknown")
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum, names := 0.0, map[string]bool{}
	for _, f := range families {
		if f.GetName() != "router_stripped_properties_total" {
			continue
		}
		for _, metric := range f.GetMetric() {
			sum += metric.GetCounter().GetValue()
			for _, l := range metric.GetLabel() {
				if l.GetName() == "property" {
					names[l.GetValue()] = true
				}
			}
		}
	}
	if want := float64(4*maxPropertyLabels + 1); sum != want {
		t.Errorf("%v counted, want %v", sum, want)
	}
	if len(names) != maxPropertyLabels+1 || !names["_other"] {
		t.Errorf("%d names", len(names))
	}
}
