#!/bin/sh
# Every registered service with its features.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.CatalogService/ListServices <<'EOF'
{
  "page_size": 100
}
EOF
