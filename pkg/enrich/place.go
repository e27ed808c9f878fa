package enrich

import (
	"math"
	"net/netip"
	"strconv"

	"github.com/oschwald/maxminddb-golang/v2"

	"eventrouter/pkg/event"
)

// place is what the databases may say of an address: the union of the records of MaxMind's City, Country, Enterprise, ISP, ASN and Domain.
type place struct {
	Continent struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"continent"`
	Country country `maxminddb:"country"`
	City    struct {
		Names names `maxminddb:"names"`
	} `maxminddb:"city"`
	Location struct {
		Latitude  *float64 `maxminddb:"latitude"`
		Longitude *float64 `maxminddb:"longitude"`
	} `maxminddb:"location"`
	Postal struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"postal"`
	Subdivisions []struct {
		ISO string `maxminddb:"iso_code"`
	} `maxminddb:"subdivisions"`

	network         // ISP, ASN and Domain have it at the top
	Traits  network `maxminddb:"traits"` // Enterprise
}

type country struct {
	ISO   string `maxminddb:"iso_code"`
	Names names  `maxminddb:"names"`
	EU    bool   `maxminddb:"is_in_european_union"`
}

type names struct {
	English string `maxminddb:"en"`
}

type network struct {
	ASN          uint64 `maxminddb:"autonomous_system_number"`
	ASOwner      string `maxminddb:"autonomous_system_organization"`
	ISP          string `maxminddb:"isp"`
	Organization string `maxminddb:"organization"`
	Domain       string `maxminddb:"domain"`
}

// Location returns what is known of an address as a JSON object with Jitsu's names, "" if nothing is.
func (g *Geo) Location(addr netip.Addr) string {
	ts := g.in()
	if ts == nil || !addr.IsValid() {
		return ""
	}
	results, at := ts.find(addr)
	if len(results) == 0 {
		return ""
	}
	if at == (records{}) {
		return location(results)
	}
	if found, ok := ts.known.get(at); ok {
		return found
	}
	found := location(results)
	ts.known.put(at, found)
	return found
}

func location(results []maxminddb.Result) string {
	var p place
	decode(results, &p)
	var o object
	o.text("continent", p.Continent.Code)
	o.text("country", p.Country.ISO)
	o.text("country_name", p.Country.Names.English)
	o.text("city", p.City.Names.English)
	o.number("latitude", p.Location.Latitude)
	o.number("longitude", p.Location.Longitude)
	o.text("zip", p.Postal.Code)
	if len(p.Subdivisions) > 0 {
		o.text("region", p.Subdivisions[0].ISO)
	}
	n := p.network
	if n == (network{}) {
		n = p.Traits
	}
	if n.ASN != 0 {
		o.key("autonomous_system_number")
		o.dst = strconv.AppendUint(o.dst, n.ASN, 10)
	}
	o.text("autonomous_system_organization", n.ASOwner)
	o.text("isp", n.ISP)
	o.text("organization", n.Organization)
	o.text("domain", n.Domain)
	return string(o.end())
}

// object appends a JSON object of members that are known.
type object struct {
	dst   []byte
	start int
}

func (o *object) key(name string) {
	if len(o.dst) == o.start {
		o.dst = append(o.dst, '{')
	} else {
		o.dst = append(o.dst, ',')
	}
	o.dst = append(append(append(o.dst, '"'), name...), '"', ':')
}

func (o *object) json(name, value string) {
	if value != "" {
		o.key(name)
		o.dst = append(o.dst, value...)
	}
}

func (o *object) text(name, value string) {
	if value != "" {
		o.key(name)
		o.dst = event.AppendString(o.dst, value)
	}
}

func (o *object) number(name string, value *float64) {
	if value != nil && !math.IsNaN(*value) && !math.IsInf(*value, 0) {
		o.key(name)
		o.dst = strconv.AppendFloat(o.dst, *value, 'f', -1, 64)
	}
}

// end closes the object, if it has members.
func (o *object) end() []byte {
	if len(o.dst) > o.start {
		o.dst = append(o.dst, '}')
	}
	return o.dst
}
