// Package filters evaluates data_layout.table_name_template, which here decides which events go to a destination.
package filters
