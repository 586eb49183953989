import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import net.spy.memcached.ConnectionFactory;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.DefaultConnectionFactory;
import net.spy.memcached.DefaultHashAlgorithm;
import net.spy.memcached.KetamaConnectionFactory;
import net.spy.memcached.KetamaNodeKeyFormatter;
import net.spy.memcached.MemcachedNode;
import net.spy.memcached.NodeLocator;

/**
 * Asks the node locators that spymemcached's connection factories make, with nodes that are not connected.
 *
 * <p>Java has no JSON, so spymemcached.py says question and answer in words:
 *
 * <pre>
 * key HEX                       a key, in hexadecimal
 * case RULE                     a case; the lines that follow are its servers
 * server HOST IP PORT WEIGHT    what `new InetSocketAddress(InetAddress.getByAddress(HOST, IP), PORT)` stands for;
 *                               HOST is `-` for an address that was written as numbers
 * </pre>
 *
 * The answer is a line for each case: the indexes of the owners, in the order of the keys.
 */
public class SpymemcachedOracle {
    public static void main(String[] arguments) throws IOException {
        List<String> keys = new ArrayList<>();
        String rule = null;
        Map<InetSocketAddress, Integer> weights = null;
        List<InetSocketAddress> servers = null;
        for (String line : new String(System.in.readAllBytes(), StandardCharsets.UTF_8).split("\n")) {
            String[] words = line.split(" ");
            switch (words[0]) {
                case "key" -> keys.add(new String(HexFormat.of().parseHex(words[1]), StandardCharsets.UTF_8));
                case "case" -> {
                    answer(rule, servers, weights, keys);
                    rule = words[1];
                    servers = new ArrayList<>();
                    weights = new HashMap<>();
                }
                case "server" -> {
                    InetSocketAddress address = address(words[1], words[2], Integer.parseInt(words[3]));
                    servers.add(address);
                    weights.put(address, Integer.parseInt(words[4]));
                }
                default -> throw new IllegalArgumentException(line);
            }
        }
        answer(rule, servers, weights, keys);
    }

    private static InetSocketAddress address(String host, String ip, int port) throws IOException {
        InetAddress numbers = InetAddress.getByName(ip);
        String name = host.equals("-") ? null : host;
        return new InetSocketAddress(InetAddress.getByAddress(name, numbers.getAddress()), port);
    }

    private static ConnectionFactory factory(String rule, Map<InetSocketAddress, Integer> weights) {
        boolean weighted = weights.values().stream().anyMatch(weight -> weight != 1);
        return switch (rule) {
            case "spymemcached-modula" -> {
                if (weighted) {
                    throw new IllegalArgumentException("it has no weights");
                }
                yield new ConnectionFactoryBuilder().build();
            }
            case "spymemcached-ketama" -> weighted
                ? new KetamaConnectionFactory(
                    DefaultConnectionFactory.DEFAULT_OP_QUEUE_LEN,
                    DefaultConnectionFactory.DEFAULT_READ_BUFFER_SIZE,
                    DefaultConnectionFactory.DEFAULT_OP_QUEUE_MAX_BLOCK_TIME,
                    DefaultHashAlgorithm.KETAMA_HASH,
                    KetamaNodeKeyFormatter.Format.SPYMEMCACHED,
                    weights)
                : new KetamaConnectionFactory();
            default -> throw new IllegalArgumentException(rule);
        };
    }

    private static void answer(
        String rule, List<InetSocketAddress> servers, Map<InetSocketAddress, Integer> weights, List<String> keys
    ) throws IOException {
        if (rule == null) {
            return;
        }
        ConnectionFactory factory = factory(rule, weights);
        List<MemcachedNode> nodes = new ArrayList<>();
        for (InetSocketAddress server : servers) {
            nodes.add(factory.createMemcachedNode(server, SocketChannel.open(), 1024));
        }
        NodeLocator locator = factory.createLocator(nodes);
        StringBuilder owners = new StringBuilder();
        for (String key : keys) {
            owners.append(nodes.indexOf(locator.getPrimary(key))).append(' ');
        }
        System.out.println(owners);
        for (MemcachedNode node : nodes) {
            node.getChannel().close();
        }
    }
}
