// Package export is the format of files of dead letters: one JSON object a line, which holds a letter whole, with a checksum, and can be read by people.
//
//	{"v":1,"crc32c":"0a1b2c3d","letter":{"id":17,"destination":"crm", … ,"event":{"id":"order-4711", … ,"json":{"event_type":"signup"}}}}
package export
