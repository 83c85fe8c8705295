import java.util.ArrayList;
import java.util.List;

/** Keeps strings and arrays for two seconds. */
public class Memory {
    static final List<Object> KEPT = new ArrayList<>();

    static void keep() {
        for (int i = 0; i < 400000; i++) KEPT.add("text " + i);
        for (int i = 0; i < 40; i++) KEPT.add(new byte[1000000]);
    }

    public static void main(String[] arguments) throws Exception {
        keep();
        Thread.sleep(2500);
        System.out.println(KEPT.size());
        System.exit(3);
    }
}
