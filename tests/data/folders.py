"""Every layout, made small, and what is to be listed of it."""

import re
from pathlib import Path

from datasets.meta import Entry
from tests.builder_data import put, put_text

# By a data set's label, a line for each file: the kind of anomaly, "train", or "-" for what is not listed; the image;
# and its mask, or the one value of what is not listed. Images stand in the order of the list.
FOLDERS = {
    "mvtec": """
        -  extra/0.png
        -  readme.txt
        -  bottle/test/good/.hidden.png
        train  bottle/train/good/02.png
        train  bottle/train/good/10.png
        train  cable/train/good/0.png
        crack  bottle/test/crack/2.png  bottle/ground_truth/crack/2_mask.png
        crack  bottle/test/crack/10.png  bottle/ground_truth/crack/10_mask.png
        good  bottle/test/good/0.png
        bent  cable/test/bent/0.png  cable/ground_truth/bent/0_mask.png
        good  cable/test/good/0.png""",
    "goodsad": """
        train  drink_can/train/good/000.jpg
        good  drink_can/test/good/001.jpg
        opened  drink_can/test/opened/002.jpg  drink_can/ground_truth/opened/002.png""",
    "mvtec_loco": """
        -  box/defects_config.json
        -  box/validation/good/000.png
        train  box/train/good/000.png
        good  box/test/good/000.png
        logical_anomalies  box/test/logical_anomalies/000.png  box/ground_truth/logical_anomalies/000
        logical_anomalies  box/test/logical_anomalies/001.png  box/ground_truth/logical_anomalies/001
        structural_anomalies  box/test/structural_anomalies/000.png  box/ground_truth/structural_anomalies/000""",
    "mvtec_ad2": """
        -  can/validation/good/0_regular.png
        -  can/test_private/0_regular.png
        train  can/train/good/0_regular.png
        bad  can/test_public/bad/2_overexposed.png  can/test_public/ground_truth/bad/2_overexposed_mask.png
        good  can/test_public/good/1_regular.png""",
    "mvtec_ad2-private": """
        -  can/train/good/0_regular.png
        -  can/test_public/good/1_regular.png
        good  can/validation/good/0_regular.png
        test_private  can/test_private/0_regular.png
        test_private_mixed  can/test_private_mixed/0_mixed.png""",
    "mvtec_3d": """
        -  bagel/validation/good/rgb/000.png
        -  bagel/test/good/xyz/000.tiff
        -  bagel/test/good/gt/000.png  0
        train  bagel/train/good/rgb/000.png
        crack  bagel/test/crack/rgb/000.png  bagel/test/crack/gt/000.png
        good  bagel/test/good/rgb/000.png
        hole  bagel/test/hole/rgb/000.png  bagel/test/hole/gt/000.png""",
    "dtd_synthetic": """
        train  Woven_001/train/good/000.png
        bad  Woven_001/test/bad/000.png  Woven_001/ground_truth/bad/000_mask.png
        good  Woven_001/test/good/000.png""",
    "rsdd": """
        anomaly  Metal15/test/anomaly/b.bmp  Metal15/ground_truth/anomaly/b.png
        good  Metal15/test/good/a.bmp""",
    "vad": """
        -  train/bad/0.png
        train  train/good/0.png
        bad  test/bad/0.png
        good  test/good/0.png""",
    "btad": """
        -  01/ground_truth/ok/0001.png  0
        train  01/train/ok/0000.bmp
        train  03/train/ok/0000.bmp
        ko  01/test/ko/0002.bmp  01/ground_truth/ko/0002.png
        ko  01/test/ko/0010.bmp  01/ground_truth/ko/0010.png
        good  01/test/ok/0001.bmp
        ko  03/test/ko/0002.bmp  03/ground_truth/ko/0002.bmp
        good  03/test/ok/0001.bmp""",
    "dagm": """
        -  Class2/Train/0002.PNG
        -  Class2/Train/Label/0002_label.PNG  255
        -  Class2/Train/Label/Labels.txt
        train  Class2/Train/0001.PNG
        train  Class10/Train/0001.PNG
        good  Class2/Test/0003.PNG
        defect  Class2/Test/0004.PNG  Class2/Test/Label/0004_label.PNG
        good  Class10/Test/0003.PNG""",
    "ksdd": """
        -  kos01/Part0_label.bmp  0
        -  kos01/Part10_label.bmp  0
        -  kos02/Part0_label.bmp  0
        good  kos01/Part0.jpg
        good  kos01/Part10.jpg
        good  kos02/Part0.jpg
        defect  kos02/Part10.jpg  kos02/Part10_label.bmp""",
    "ksdd2": """
        -  train/10001_GT.png  0
        -  train/10002.png
        -  train/10002_GT.png  255
        -  test/10003_GT.png  0
        train  train/10001.png
        good  test/10003.png
        defect  test/10004.png  test/10004_GT.png""",
    "mtd": """
        -  MT_Free/Imgs/exp1_num_1.png  0
        good  MT_Free/Imgs/exp1_num_1.jpg
        blowhole  MT_Blowhole/Imgs/exp1_num_1.jpg  MT_Blowhole/Imgs/exp1_num_1.png
        uneven  MT_Uneven/Imgs/exp1_num_1.jpg  MT_Uneven/Imgs/exp1_num_1.png""",
    "liver": """
        -  valid/Ungood/img/2.png
        -  test/good/label/3.png  0
        train  train/good/1.png
        good  test/good/img/3.png
        lesion  test/Ungood/img/4.png  test/Ungood/label/4.png
        lesion  test/Ungood/img/10.png  test/Ungood/label/10.png""",
    "kvasir": """
        polyp  images/2.png  masks/2.png
        polyp  images/10.png  masks/10.png
        polyp  images/11.JPG  masks/11.png""",
    "cvc_clinicdb": """
        polyp  Original/9.tif  Ground Truth/9.tif
        polyp  Original/10.tif  Ground Truth/10.tif""",
    "endotect": "polyp  images/a1.jpg  masks/a1.png",
    "tn3k": """
        -  trainval-image/0000.jpg
        -  trainval-mask/0000.jpg  255
        -  tn3k-trainval-fold0.json
        nodule  test-image/0000.jpg  test-mask/0000.jpg""",
    "isic": """
        lesion  ISBI2016_ISIC_Part1_Test_Data/I_2.jpg  ISBI2016_ISIC_Part1_Test_GroundTruth/I_2_Segmentation.png
        lesion  ISBI2016_ISIC_Part1_Test_Data/I_10.jpg  ISBI2016_ISIC_Part1_Test_GroundTruth/I_10_Segmentation.png""",
    "brainmri": """
        good  no/1 no.PNG
        tumor  yes/Y1.JPG
        tumor  yes/Y2.jpeg""",
    "br35h": """
        -  pred/pred1.jpg
        good  no/no1.jpg
        tumor  yes/y1.jpg""",
}
TOPS = {  # folders that archives may be unpacked with
    "dtd_synthetic": "DTD-Synthetic/",
    "rsdd": "RSDD/",
    "vad": "vad/",
    "dagm": "DAGM_KaggleUpload/",
    "ksdd2": "KSDD2/",
    "endotect": "EndoTect_2020_Segmentation_Test_Dataset/",
    "tn3k": "tn3k/",
    "brainmri": "brain_tumor_dataset/",
    "br35h": "Br35H/",
}
OF_CLASSES = {"mvtec", "mpdd", "goodsad", "mvtec_loco", "mvtec_ad2", "mvtec_3d", "dtd_synthetic"}
OF_CLASSES |= {"rsdd", "btad", "dagm"}


def make(root: Path, name: str, text: str, top: str = "") -> dict[str, list[Entry]]:
    """Write the files of `text`, see `FOLDERS`, below `root` and a folder `top`; return what is to be listed by split.

    A class is called as its folder, or, of data sets of one class, by the data set's `name`.
    """
    expected: dict[str, list[Entry]] = {"train": [], "test": []}
    for kind, file, *more in (re.split("  +", line.strip()) for line in text.strip().splitlines()):
        path = root / top / file
        if kind == "-":
            put_text(path, "") if path.suffix in (".txt", ".json") else put(path, *map(int, more))
            continue
        put(path)
        for mask in more:
            put(root / top / mask / ("" if Path(mask).suffix else "000.png"), 255)
        cls_name = file.partition("/")[0] if name in OF_CLASSES else name
        (mask,) = [top + mask for mask in more] or [""]
        if kind in ("train", "good"):
            entry = Entry(top + file, mask, cls_name, "good", 0)
        else:
            entry = Entry(top + file, mask, cls_name, kind, None if kind.startswith("test_private") else 1)
        expected["train" if kind == "train" else "test"].append(entry)
    return expected
