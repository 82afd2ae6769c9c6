#!/bin/sh
# Every plan.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.PlanService/ListPlans <<'EOF'
{
  "page_size": 100
}
EOF
