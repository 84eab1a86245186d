import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/** OpenSearch's own node, for this machine alone: Real HOME PORT. It ends with its standard input. */
public class Real extends Node {
    Real(Settings settings) {
        super(InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "real"), List.of(Netty4Plugin.class), false);
    }

    public static void main(String[] given) throws Exception {
        Settings settings = Settings.builder()
            .put("path.home", given[0])
            .put("http.port", given[1])
            .put("transport.port", "0")
            .put("network.host", "127.0.0.1")
            .put("node.name", "real")
            .put("cluster.name", "real")
            .put("discovery.type", "single-node")
            .put("http.type", "netty4")
            .put("transport.type", "netty4")
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .build();
        try (Node node = new Real(settings)) {
            node.start();
            System.out.println("up");
            System.in.read();
        }
    }
}
