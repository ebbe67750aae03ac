// The endpoints that the benchmark asks, in Go's usual way: net/http and pgx.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// User is what both endpoints show.
type User struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
	Age   int    `json:"age"`
}

var durations = promauto.NewHistogramVec(
	prometheus.HistogramOpts{Name: "http_request_duration_seconds", Help: "Duration of requests"},
	[]string{"method", "endpoint", "status"},
)

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// observed logs a request twice and counts it, as user-service does.
func observed(next http.Handler) http.Handler {
	logger := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		logger.Info("Request started", "method", r.Method, "url", r.URL.Path, "remote", r.RemoteAddr)
		recorded := &recorder{w, http.StatusOK}
		next.ServeHTTP(recorded, r)
		took := time.Since(started).Seconds()
		durations.WithLabelValues(r.Method, r.Pattern, strconv.Itoa(recorded.status)).Observe(took)
		logger.Info("Request completed", "method", r.Method, "url", r.URL.Path, "status", recorded.status, "duration", took)
	})
}

func answer(w http.ResponseWriter, shown any, err error) {
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		w.WriteHeader(http.StatusNotFound)
	case err != nil:
		slog.Error("database", "error", err)
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(shown)
	}
}

func main() {
	pool, err := pgxpool.New(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.Handler())
	mux.HandleFunc("GET /api/v1/users/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		rows, _ := pool.Query(r.Context(), "SELECT id, name, email, age FROM users WHERE id = $1", id)
		user, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[User])
		answer(w, user, err)
	})
	mux.HandleFunc("GET /api/v1/users", func(w http.ResponseWriter, r *http.Request) {
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil {
			limit = 100
		}
		rows, _ := pool.Query(r.Context(), "SELECT id, name, email, age FROM users ORDER BY id LIMIT $1", limit)
		users, err := pgx.CollectRows(rows, pgx.RowToStructByPos[User])
		answer(w, users, err)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), observed(mux)))
}
