#!/bin/sh
# Registers a limit. Running it again does it once.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.CatalogService/UpsertLimit <<'EOF'
{
  "limit_id": "max_invoices_per_month",
  "title": "Invoices",
  "unit": "invoices",
  "period": "PERIOD_MONTH",
  "request_id": "example-upsert-limit"
}
EOF
